"""Who may come in: connections that wait, passwords that are verified, and how many there is room for."""

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
from mqtt_presence.embedded.connect_request import Refused
from mqtt_presence.embedded.pending_connections import PendingConnections
from mqtt_presence.embedded.transports import Visitor
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.return_codes import Refusal

CLIENTS_LIMIT = 10_000
"""Clients connected at once; fewer where the system allows fewer open files."""
SPARE_FILES = 100
"""Open files that are no clients' connections."""
WAITING_LIMIT = 1000
"""Connections that have not sent their CONNECT."""
WAITING_LIMIT_EACH = 200
"""The same of one address."""
VERIFYING_LIMIT = 2000
"""Passwords that wait to be verified."""


class Admission:
    """Lets clients in, or tells why not; touches no session.

    Args:
        config: of the broker.
        passwords: the users; None: anybody is let in under any name but the bridge's.
        complaints: where to say who was not.

    """

    def __init__(
        self, config: EmbeddedConfig, passwords: PasswordFile | None, complaints: RateLimitedLog
    ) -> None:
        self._config = config
        self._passwords = passwords
        self._log_limited = complaints.log
        waiting, self._most_clients = _room()
        self.pending: PendingConnections[Visitor] = PendingConnections(
            waiting, min(waiting, WAITING_LIMIT_EACH)
        )
        self._verifier = concurrent.futures.ThreadPoolExecutor(2, "mqtt-password")  # argon2: 64 MiB each
        self._verifying = 0
        self._guesses = PasswordAttempts()
        self._clients_of: Counter[str] = Counter()
        self._clients = 0

    def close(self) -> None:
        """Let the threads go."""
        self._verifier.shutdown(wait=False)

    def arrive(self, visitor: Visitor, address: str) -> None:
        """Let a connection wait until it says who it is."""
        unwelcome = self.pending.enter(visitor, address)
        if unwelcome is not None:
            self._log_limited(
                "%d connections wait without a CONNECT: the oldest are closed", len(self.pending)
            )
            unwelcome.abort()

    def leave(self, visitor: Visitor) -> None:
        """It has said who it is, or is gone. Harmless when it has left already."""
        self.pending.leave(visitor)

    async def admit(self, user: str, password: bytes | None, address: str) -> Refused | None:
        """Verify a password, but not for whoever has guessed too often; tell why not."""
        loop = asyncio.get_running_loop()
        # Nobody can guess the bridge's secret, so no guesses keep the bridge out; nor who was let in before.
        if user == self._config.bridge_user or self._remembers(user, password or b""):
            right = await self._is_right(user, password)
            return None if right else Refused(Refusal.NOT_AUTHORIZED, "wrong password")
        if not self._guesses.may_try(user, address, loop.time()):
            self._log_limited("too many wrong passwords from address=%s, the last for user=%r", address, user)
            return Refused(Refusal.UNAVAILABLE, "not looked at, too many wrong passwords from there")
        if self._verifying >= VERIFYING_LIMIT:
            self._log_limited("%d passwords wait to be verified: more are refused", self._verifying)
            return Refused(Refusal.UNAVAILABLE, "not looked at, too many logins at once")
        self._verifying += 1
        self._guesses.begin(user, address, loop.time())
        try:
            right = await self._is_right(user, password)
        finally:
            self._verifying -= 1
        if right:
            self._guesses.right(user, address, loop.time())
            return None
        self._guesses.wrong(address, loop.time())
        return Refused(Refusal.NOT_AUTHORIZED, "wrong password")

    def _remembers(self, user: str, password: bytes) -> bool:
        if self._passwords is None:
            return True
        try:
            self._passwords.load()
        except ConfigError:
            return False  # `_is_right` will say so
        return self._passwords.remembers(user, password)

    async def _is_right(self, user: str, password: bytes | None) -> bool:
        """Say whether this is who it says."""
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
            self._log_limited("nobody can log in: %s", error, level=logging.ERROR)
            return False
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._verifier, self._passwords.verify, user, text)

    def refuse_crowd(self, user: str) -> str | None:
        """Tell why there is no room for another connection of this user; the bridge always has some."""
        if user == self._config.bridge_user:
            return None
        if self._clients >= self._most_clients:
            self._log_limited("%d clients are connected: no more are let in", self._clients)
            return "too many clients"
        most = self._config.max_connections
        if most is not None and self._clients_of[user] >= most:
            self._log_limited("%d clients of user=%r are connected: no more are let in", most, user)
            return "too many clients of this user"
        return None

    def count(self, user: str, step: int) -> None:
        """Take note of a client that has come or gone; the bridge takes nobody's place."""
        if user == self._config.bridge_user:
            return
        self._clients += step
        self._clients_of[user] += step
        if not self._clients_of[user]:
            del self._clients_of[user]

    def log_refusal(self, whom: str, *who: object, refused: Refused) -> None:
        """Log who was not let in, and why.

        Args:
            whom: a format, and a constant.
            who: what is put into it.
            refused: why.

        """
        self._log_limited(f"refused {whom}: {refused.why}", *who, *refused.about, level=logging.INFO)


def _room() -> tuple[int, int]:
    """Tell how many may wait at the door, and how many be in: what the system allows in open files.

    Without a bound of our own `accept` would fail one day, for the bridge too.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return WAITING_LIMIT, CLIENTS_LIMIT
    waiting = min(WAITING_LIMIT, files // 4)
    return waiting, max(1, min(CLIENTS_LIMIT, files - waiting - SPARE_FILES))
