"""How waiting gates share one poll, what they log, and what they report."""
