"""Tools for operators: check, simulate, verify, init-broker, forget; the product runs without them.

Imports all rooms but `cli` and `settings`.
"""
