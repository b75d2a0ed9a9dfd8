"""The presence protocol on the wire: topics and payloads, in both directions.

Imports `rules` and `errors`.
"""
