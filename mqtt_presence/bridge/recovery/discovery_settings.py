"""The settings of Home Assistant's discovery, across restarts: messages of earlier settings are removed.

The database lists the settings whose messages the broker may have. When the present ones are others, the
retained messages of all users are published again; those of earlier settings are then empty, except where the
present ones replace them.
"""

import logging
from collections.abc import Sequence

import msgspec

from mqtt_presence.bridge.link.link import Link
from mqtt_presence.bridge.part import Part
from mqtt_presence.bridge.recovery.retained_statuses import RetainedStatuses
from mqtt_presence.integrations.homeassistant import Discovery, HomeAssistantOutput, RemovedDiscovery
from mqtt_presence.integrations.outputs import Outputs
from mqtt_presence.integrations.port import Output
from mqtt_presence.store import Store, Transaction

log = logging.getLogger(__name__)

DISCOVERY = "homeassistant"
"""The name of the value in the database: the settings whose messages the broker may have."""


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
        known = _read(tx.read_value(DISCOVERY))
        former = [settings for settings in known if settings != self._present]
        self._outputs.put_first(_outputs(former, self._present))
        self._has_former = known != [self._present] and tx.seat == 0
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
        tx.write_value(DISCOVERY, None if known == [None] else msgspec.json.encode(known).decode())


def known_discovery(stored: str | None) -> Outputs:
    """Return the outputs of the bridge's last run, from the value in the database."""
    *former, present = _read(stored)
    return Outputs(_outputs(former, present))


def _outputs(former: Sequence[Discovery | None], present: Discovery | None) -> list[Output]:
    """Return the output of the present settings, behind those that remove the messages of earlier ones."""
    output = None if present is None else HomeAssistantOutput(present)
    outputs: list[Output] = [
        RemovedDiscovery(HomeAssistantOutput(each), output) for each in former if each is not None
    ]
    if output is not None:
        outputs.append(output)
    return outputs


def _read(stored: str | None) -> list[Discovery | None]:
    """Return the settings whose messages the broker may have, the latest last; None: switched off."""
    return [None] if stored is None else msgspec.json.decode(stored, type=list[Discovery | None])
