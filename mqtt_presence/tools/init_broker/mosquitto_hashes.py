"""mosquitto's password hashes, made without mosquitto_passwd."""

import base64
import hashlib
import secrets

# The values of mosquitto_passwd. The passwords are random, 144 bits: more rounds would not make them harder
# to guess, but each round costs the broker time when all clients reconnect.
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
