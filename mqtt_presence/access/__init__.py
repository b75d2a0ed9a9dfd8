"""Limits on strangers: rights, passwords, attempts, rates, and the log that they could fill.

Imports `protocol` and `mqtt`.
"""
