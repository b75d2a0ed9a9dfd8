"""Limits of payloads and their fields (docs/protocol.md); sizes in bytes."""

MAX_PAYLOAD = 8 * 1024
TOO_LARGE = "too_large"
"""The reason of a refusal for a larger payload."""
MAX_META = 2 * 1024
MAX_T0 = 64
MAX_CONNECTION_ID = 64
"""Characters."""
MAX_DURATION_S = 10 * 365 * 86_400.0
MAX_WITHIN_S = 3600.0
"""The longest time over which clients spread their answers to an announcement."""
