"""Operators that read the balance or gate on it."""
