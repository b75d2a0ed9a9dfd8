"""Monitoring of the bridge: totals, signs of its own life, and the formats in which others read them.

Imports `store`, `protocol`, `mqtt` and `rules`. Other threads read it; only the loop writes.
"""
