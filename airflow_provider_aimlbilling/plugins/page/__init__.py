"""The server of the billing page. Only the API server imports it, with the first request."""
