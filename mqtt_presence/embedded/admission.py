"""Admission: which network connections, passwords and clients the embedded broker accepts.

Three limits protect the broker from strangers: pending connections, wrong passwords, and connected clients.
The bridge is exempt from the last two. Admission changes no session.
"""

import asyncio
import concurrent.futures
import hmac
import logging
import resource
from collections import Counter

from mqtt_presence.access.password_attempts import PasswordAttempts
from mqtt_presence.access.passwords import PasswordFile
from mqtt_presence.access.rate_limited_log import RateLimitedLog
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.connect_request import Rejection
from mqtt_presence.embedded.pending_connections import PendingConnections
from mqtt_presence.embedded.transports import Abortable
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.return_codes import Refusal

CLIENTS_LIMIT = 10_000
"""Clients connected at once; fewer where the system allows fewer open files."""
SPARE_FILES = 100
"""Open files kept free for other purposes than clients."""
PENDING_LIMIT = 1000
"""Network connections without a CONNECT."""
PENDING_LIMIT_PER_ADDRESS = 200
"""The same from one address."""
VERIFICATIONS_LIMIT = 2000
"""Passwords waiting to be verified."""


class Admission:
    """Accepts or rejects clients.

    Args:
        config: of the broker.
        passwords: the users; None: every user name is accepted without a password, except the bridge's.
        limited_log: receives the rejections.

    """

    def __init__(
        self, config: EmbeddedConfig, passwords: PasswordFile | None, limited_log: RateLimitedLog
    ) -> None:
        self._config = config
        self._passwords = passwords
        self._log = limited_log.log
        pending, self._clients_limit = _limits()
        self.pending: PendingConnections[Abortable] = PendingConnections(
            pending, min(pending, PENDING_LIMIT_PER_ADDRESS)
        )
        self._verifier = concurrent.futures.ThreadPoolExecutor(2, "mqtt-password")  # argon2: 64 MiB each
        self._verifications = 0
        self._attempts = PasswordAttempts()
        self._clients_of: Counter[str] = Counter()
        self._clients = 0

    def close(self) -> None:
        """End the threads that verify passwords."""
        self._verifier.shutdown(wait=False)

    def add_pending(self, connection: Abortable, address: str) -> None:
        """Count a new network connection as pending; abort the oldest one beyond the limit."""
        oldest = self.pending.add(connection, address)
        if oldest is not None:
            self._log("%d connections wait without a CONNECT: the oldest are closed", len(self.pending))
            oldest.abort()

    def remove_pending(self, connection: Abortable) -> None:
        """Stop counting a network connection as pending. Harmless if it is not."""
        self.pending.remove(connection)

    async def authenticate(self, user: str, password: bytes | None, address: str) -> Rejection | None:
        """Verify a password, unless the address has sent too many wrong ones.

        Returns:
            The rejection; None if the user is authenticated.

        """
        loop = asyncio.get_running_loop()
        # The bridge's secret is too long to guess, and a remembered password is right: no limit applies.
        if user == self._config.bridge_user or self._is_remembered(user, password or b""):
            right = await self._is_right(user, password)
            return None if right else Rejection(Refusal.NOT_AUTHORIZED, "wrong password")
        if not self._attempts.is_allowed(user, address, loop.time()):
            self._log("too many wrong passwords from address=%s, the last for user=%r", address, user)
            return Rejection(
                Refusal.UNAVAILABLE, "password not checked, too many wrong passwords from this network"
            )
        if self._verifications >= VERIFICATIONS_LIMIT:
            self._log("%d passwords wait to be verified: more are refused", self._verifications)
            return Rejection(Refusal.UNAVAILABLE, "password not checked, too many logins at once")
        self._verifications += 1
        self._attempts.begin(user, address, loop.time())
        try:
            right = await self._is_right(user, password)
        finally:
            self._verifications -= 1
        if right:
            self._attempts.record_success(user, address, loop.time())
            return None
        self._attempts.record_failure(address, loop.time())
        return Rejection(Refusal.NOT_AUTHORIZED, "wrong password")

    def _is_remembered(self, user: str, password: bytes) -> bool:
        if self._passwords is None:
            return True
        try:
            self._passwords.load()
        except ConfigError:
            return False  # `_is_right` logs the error
        return self._passwords.is_remembered(user, password)

    async def _is_right(self, user: str, password: bytes | None) -> bool:
        if user == self._config.bridge_user:
            secret = self._config.bridge_password.encode()
            return bool(secret) and hmac.compare_digest(secret, password or b"")
        if self._passwords is None:
            return True
        try:
            self._passwords.load()
            text = (password or b"").decode()
        except UnicodeDecodeError:
            return False
        except ConfigError as error:
            self._log("no user can log in: %s", error, level=logging.ERROR)
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._verifier, self._passwords.verify, user, text)

    def reject_crowd(self, user: str) -> Rejection | None:
        """Return a rejection if there is no room for another client of this user; never for the bridge."""
        if user == self._config.bridge_user:
            return None
        if self._clients >= self._clients_limit:
            self._log("%d clients are connected: no more are let in", self._clients)
            return Rejection(Refusal.UNAVAILABLE, "too many clients")
        limit = self._config.max_connections
        if limit is not None and self._clients_of[user] >= limit:
            self._log("%d clients of user=%r are connected: no more are let in", limit, user)
            return Rejection(Refusal.UNAVAILABLE, "too many clients of this user")
        return None

    def count_client(self, user: str, change: int) -> None:
        """Count a client that has connected (1) or is gone (-1); the bridge is not counted."""
        if user == self._config.bridge_user:
            return
        self._clients += change
        self._clients_of[user] += change
        if not self._clients_of[user]:
            del self._clients_of[user]

    def log_rejection(self, client: str, *values: object, rejection: Rejection) -> None:
        """Log a rejected client and the reason.

        Args:
            client: a constant format that describes the client.
            values: the values for the format.
            rejection: the reason.

        """
        self._log(f"refused {client}: {rejection.reason}", *values, *rejection.values, level=logging.INFO)


def _limits() -> tuple[int, int]:
    """Return the limits of pending connections and of clients, as the system allows open files.

    Without a limit of the broker's own, ``accept`` would fail one day, for the bridge too.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return PENDING_LIMIT, CLIENTS_LIMIT
    pending = min(PENDING_LIMIT, files // 4)
    return pending, max(1, min(CLIENTS_LIMIT, files - pending - SPARE_FILES))
