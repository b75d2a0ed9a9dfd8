"""Access control: rights, passwords, and limits of attempts, rates and log lines.

Imports `protocol`, `mqtt` and `errors`.
"""
