"""Brokers that report connections, one module for each kind.

Imports `adapters.port`, `protocol` and `rules`.
"""
