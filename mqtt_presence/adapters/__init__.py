"""Other people's topics, read as events: brokers' reports and device fleets.

Imports `protocol`, `mqtt` and `rules`.
"""
