"""Outputs: committed outcomes in the formats of other programs.

Imports `protocol` and `rules`.
"""
