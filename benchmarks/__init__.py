"""What tersely costs and what it keeps, measured."""
