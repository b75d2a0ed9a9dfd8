"""Device subscriptions: follows the topics of the device profiles in use, and no others."""

import json
from collections.abc import Sequence

from mqtt_presence.adapters.port import Fleets
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import OnCheck
from mqtt_presence.bridge.recovery.kept_values import KeptValue, save_changed
from mqtt_presence.store import Store, Transaction


class DeviceSubscriptions(OnCheck):
    """Subscribes at each connect; unsubscribes from filters that the settings no longer name.

    The broker keeps the subscriptions of the bridge's session for ever, so the database keeps their names.

    Args:
        fleets: read the topics of devices.
        store: keeps the filters that the session may have.

    """

    is_of_all = False

    def __init__(self, fleets: Sequence[Fleets], store: Store) -> None:
        super().__init__()
        self._fleets = fleets
        self._store = store
        self._wanted = {f for of_profiles in fleets for f in of_profiles.filters}
        self._unwanted: set[str] = set()
        self._kept = KeptValue("device_filters", self._encode)

    def _encode(self) -> str | None:
        filters = sorted(self._wanted | self._unwanted)
        return json.dumps(filters) if filters else None

    def restore(self, tx: Transaction) -> None:
        """Restore the fleets from their records; read the filters of the last run."""
        kept = self._kept.restore(tx)
        self._unwanted = set(json.loads(kept or "[]")) - self._wanted
        self._kept.stored = self._encode()  # before the session can have the filters
        tx.write_value(self._kept.name, self._kept.stored)
        for fleets in self._fleets:
            fleets.restore(tx.latest_of_origins(fleets.origins))

    def connected(self, link: Link, *, session_present: bool, contested: bool) -> None:
        """See `DeviceSubscriptions`."""
        del contested
        if not session_present:
            self._unwanted.clear()
        for topic_filter in sorted(self._unwanted):
            link.unsubscribe(topic_filter)
        for fleets in self._fleets:
            fleets.connected()
            for topic_filter, qos in fleets.qos.items():
                link.subscribe(topic_filter, qos)

    def subscribed(self, topic_filter: str) -> None:
        """Forget the unwanted filters once the broker has answered a later request."""
        del topic_filter
        self._unwanted.clear()

    def check(self, link: Link) -> bool:
        """Save the filters, if they have changed."""
        del link
        save_changed(self._store, self._kept)
        return True
