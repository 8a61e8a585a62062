"""The trigger that waits for the balance without a worker."""
