"""The tools for operators: check, simulate, verify, init-broker, forget; no other room needs them.

Imports all rooms but `cli` and `settings`.
"""
