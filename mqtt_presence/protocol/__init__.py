"""The presence protocol on the wire: topics and payloads in both directions (docs/protocol.md).

Imports `rules` and `errors`.
"""
