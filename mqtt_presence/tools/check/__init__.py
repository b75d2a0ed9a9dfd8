"""Plugging into a broker from outside, and trying what it will and will not do for presence."""
