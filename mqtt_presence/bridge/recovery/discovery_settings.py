"""The settings of Home Assistant's discovery, across restarts: messages of earlier settings are removed.

The database lists the settings whose messages the broker may have. When the present ones are others, the
retained messages of all users are published again; those of earlier settings are then empty, except where the
present ones replace them.
"""

import logging

import msgspec

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.integrations.homeassistant import Discovery, HomeAssistantOutput, RemovedDiscovery
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.rules.model import UserId
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

_NAME = "homeassistant"


class DiscoverySettings(Part):
    """Adds the outputs of Home Assistant, and stores their settings.

    Args:
        store: has the settings of the last run.
        outputs: get the outputs.
        retained: publishes the messages of all users.
        present: the settings of this run; None: switched off.

    """

    def __init__(
        self, store: Store, outputs: Outputs, retained: RetainedStatuses, present: Discovery | None
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._retained = retained
        self._present = present
        self._has_former = False
        """Whether the broker may have messages of earlier settings."""

    def restore(self, tx: Transaction) -> None:
        """Compare the settings with those of the last run."""
        known = _read(tx)
        present = None if self._present is None else HomeAssistantOutput(self._present)
        former = [settings for settings in known if settings != self._present]
        removed = [RemovedDiscovery(HomeAssistantOutput(s), present) for s in former if s is not None]
        self._outputs.put_first(removed if present is None else [*removed, present])
        self._has_former = known != [self._present]
        if self._has_former:
            log.info("the settings for Home Assistant have changed: its discovery messages will follow")
            self._save(tx, former)
            self._retained.request(tx)

    def step(self, link: Link) -> bool:
        """Forget the earlier settings when the broker has no message of them left."""
        del link
        if self._has_former and self._retained.is_complete:
            with self._store.transaction() as tx:
                self._save(tx, [])
            self._has_former = False
        return True

    def _save(self, tx: Transaction, former: list[Discovery | None]) -> None:
        known = [*former, self._present]
        tx.write_value(_NAME, None if known == [None] else msgspec.json.encode(known).decode())


def discovery_topics(tx: Transaction, user_id: UserId) -> list[str]:
    """Return the topics on which the broker may have discovery messages of a user."""
    outputs = [HomeAssistantOutput(settings) for settings in _read(tx) if settings is not None]
    return [topic for output in outputs for topic in output.topics(user_id)]


def _read(tx: Transaction) -> list[Discovery | None]:
    """Return the settings whose messages the broker may have; None: switched off."""
    stored = tx.read_value(_NAME)
    return [None] if stored is None else msgspec.json.decode(stored, type=list[Discovery | None])
