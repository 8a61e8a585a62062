"""Operators that read the balance, gate on it, price a job or report spending."""
