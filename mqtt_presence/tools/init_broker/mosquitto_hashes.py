"""mosquitto's password hashes, so that no mosquitto_passwd is needed to make one."""

import base64
import hashlib
import secrets

# mosquitto_passwd's own numbers. The passwords made here are random, 144 bits: no number of rounds makes them
# harder to guess, but each round costs the broker time when all clients come back at once.
_ROUNDS = 101
_SALT_BYTES = 12


def mosquitto_hash(password: str) -> str:
    """Hash a password as mosquitto 2 does: PBKDF2 with SHA-512, ``$7$rounds$salt$hash``."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def new_password() -> str:
    """Make a password: 24 characters that need no quoting in a URL, a shell or a file."""
    return secrets.token_urlsafe(18)
