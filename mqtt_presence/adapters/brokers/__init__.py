"""Brokers that report connections: one module for each. Imports `adapters.port`."""
