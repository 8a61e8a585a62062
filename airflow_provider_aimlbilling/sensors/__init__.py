"""The sensor that waits for the balance."""
