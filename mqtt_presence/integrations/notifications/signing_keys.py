"""Signatures by Standard Webhooks: HMAC-SHA256 over id, timestamp and body, for each key of a file."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64


def read_keys(file: Path) -> list[bytes]:
    """Return the keys of a file: a line of base64 for each, with or without ``whsec_`` before it.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is no key, or there is none; the message names the line's number only.

    """
    keys = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX.encode()), validate=True)
        except binascii.Error:
            key = b""
        if not _SHORTEST <= len(key) <= _LONGEST:
            raise ValueError(
                f"line {number} must be {_SHORTEST} to {_LONGEST} bytes in base64 "
                "(echo whsec_$(openssl rand -base64 32))"
            )
        keys.append(key)
    if not keys:
        raise ValueError("it has no key (echo whsec_$(openssl rand -base64 32))")
    return keys


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: a signature for each key.

    Args:
        keys: the raw keys.
        message_id: the value of `webhook-id`.
        timestamp: the value of `webhook-timestamp`, epoch seconds.
        body: the bytes of the request's body.

    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    macs = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)
