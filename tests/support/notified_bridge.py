"""A bridge with receivers of notifications, on a link and clocks that a test holds in its hand."""

from functools import partial
from typing import Any, Self

from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.bridge.notifications.sender import Sender
from mqtt_presence.integrations.notifications.receivers import read_receivers, sending_of
from tests.support.held_bridge import HeldBridge
from tests.support.waiting import until

DAY_S = 86_400


class NotifiedBridge(HeldBridge):
    """A bridge with `[[notify]]` tables; its senders run in threads of their own, unless a test steps them.

    Args:
        database: its URL.
        tables: of the settings file.
        keep_s: the setting `notify_keep`.
        private: the setting `notify_private`.

    """

    def __init__(
        self, database: str, *tables: dict[str, Any], keep_s: float = 7 * DAY_S, private: bool = True
    ) -> None:
        self.tables = list(tables)
        self._keep_s = keep_s
        self._private = private
        self._ids: dict[str, int] = {}
        self.monitor = Monitor()
        super().__init__(database)
        self.connect()

    def more(self) -> dict[str, Any]:
        receivers = read_receivers(self.tables)
        make = partial(sending_of, prefix="", private=self._private, now=self.clock.now)
        config = NotificationConfig(
            receivers, self.database, make, round(self._keep_s * 1000), look_every_s=0.02
        )
        return {"notifications": config if receivers else None, "monitor": self.monitor}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the senders, and close the database."""
        for part in self.loop._parts:
            part.close()
        self.store.close()

    def restart(self, *tables: dict[str, Any]) -> None:
        """Start again, as after a kill; with other receivers if tables are given."""
        self.end()
        self.tables = list(tables) or self.tables
        self.start()
        self.connect()

    @property
    def sender(self) -> Sender:
        """The first receiver's sender."""
        return self.parts.notifications.senders.senders[0]

    def comes(self, *users: str) -> None:
        """Have users log in."""
        for user in users:
            self._ids[user] = self._ids.get(user, 0) + 1
        self.step(self.messages(*((f"presence/{user}/phone/login", self._fields(user)) for user in users)))

    def goes(self, *users: str) -> None:
        """Have users vanish."""
        self.step(self.messages(*((f"presence/{user}/phone/will", self._fields(user)) for user in users)))

    def reports(self, user: str, *, idle: bool) -> None:
        """Have a user become idle or active."""
        fields = self._fields(user) | {"idle": idle}
        self.step(self.messages((f"presence/{user}/phone/activity", fields)))

    def _fields(self, user: str) -> dict[str, Any]:
        return {"connectionId": f"c{self._ids[user]}"}

    def passes(self, seconds: float) -> None:
        """Let time pass, and have the bridge check its deadlines."""
        self.step(seconds=seconds)
        for _ in range(3):
            self.check()
        until(lambda: not self.loop._requests.qsize(), "the checks are done")
