"""protocol.sizes."""

MAX_PAYLOAD = 8 * 1024
TOO_LARGE = "too_large"
"""Why what is larger is refused."""
MAX_META = 2 * 1024
MAX_T0 = 64
MAX_CONNECTION_ID = 64
MAX_DURATION_S = 10 * 365 * 86_400.0
