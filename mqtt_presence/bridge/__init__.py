"""The bridge: from the broker's messages to committed records, statuses and events.

Imports `integrations`, `adapters`, `store`, `access`, `protocol`, `mqtt` and `rules`.
"""
