"""Device states: what a sign of life, an end, a sleep or a gateway means for the devices of a fleet."""

from typing import Any

from mqtt_presence.adapters.devices.device import Device
from mqtt_presence.adapters.devices.fleet_rules import Events
from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.protocol.incoming import fresh_connection_id
from mqtt_presence.rules.events import End, Sighting
from mqtt_presence.rules.model import Cause, Reason

_BEAT_MS = 60_000
"""Signs of life of one device become at most one event in this time."""


class DeviceStates:
    """The devices of one profile, and what happens to them.

    Args:
        profile: checked.

    """

    revives_children = True
    """Whether devices return with their gateway, without a message of their own."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.devices: dict[tuple[str, str], Device] = {}
        self._gone_parents: set[str] = set()
        self.retained_there: dict[tuple[str, str], Device] = {}
        """By user and client: the devices that are there by a retained message of this connection."""
        third = profile.timeout_ms // 3
        self._beat_ms = min(_BEAT_MS, third) if third else _BEAT_MS

    # Parents.

    def parent_gone(self, key: str, now: int) -> Events:
        """End the devices of a gateway that is gone."""
        self._gone_parents.add(key)
        ended = (
            self._end_by_parent(device, now)
            for device in list(self.devices.values())
            if device.is_open and key in device.parents
        )
        return [event for event in ended if event is not None]

    def parent_there(self, key: str, now: int) -> Events:
        """Bring back the devices of a gateway, as they were."""
        self._gone_parents.discard(key)
        if not self.revives_children:
            return []
        return [
            device.revival(now)
            for device in list(self.devices.values())
            if device.is_ended_by_parent
            and device.says_there
            and key in device.parents
            and not device.parents & self._gone_parents
        ]

    def set_parent(self, device: Device, key: str, now: int) -> Events:
        """Give a device its gateway."""
        device.parents |= {key}
        if key in self._gone_parents and device.is_open:
            event = self._end_by_parent(device, now)
            return [event] if event is not None else []
        return []

    def _end_by_parent(self, device: Device, now: int) -> End | None:
        device.is_ended_by_parent = True
        return device.end(Reason.LOST, now, Cause.PARENT)

    def _is_cut_off(self, device: Device) -> bool:
        return bool(device.parents & self._gone_parents)

    # What messages mean for a device.

    def there(self, device: Device, now: int, epoch: int, *, is_live: bool) -> Events:
        """Return the events of a device that reports itself there."""
        device.says_there = True
        if is_live:
            device.is_overruled = False
            device.gone_at = None
        if self._is_cut_off(device):
            event = self._end_by_parent(device, now) if device.is_open else None
            return [event] if event is not None else []
        if not is_live:
            self.retained_there[device.user_id, device.client_id] = device
            return self._first_sight(device, now)
        if device.is_open and self.profile.words.birth == "repeat":
            return self._alive(device, now, epoch)
        device.seen_epoch = epoch
        return [device.login(fresh_connection_id(), now)]

    def _first_sight(self, device: Device, now: int) -> Events:
        """Open the record of a device that is there by its retained availability.

        The rules may have ended the record by a guess; a retained message is no reason to take that back.
        """
        if device.is_open:
            if device.is_asleep and device.asleep_until is None:
                return [self._woken(device, now, is_live=False)]
            return []
        if device.is_guessed:
            return []
        return [device.opening(fresh_connection_id(), now, is_live=False)]

    def gone(self, device: Device, reason: Reason, now: int, *, is_live: bool) -> Events:
        """Return the events of a device that is reported gone."""
        if device.asleep_until is not None and now < device.asleep_until:
            return []  # it announced that it would be away
        if not is_live and device.is_overruled:
            return []
        self.retained_there.pop((device.user_id, device.client_id), None)
        device.says_there = device.is_overruled = device.is_ended_by_parent = False
        is_taken_back = is_live and reason is Reason.LOST and device.connection_id is not None
        device.gone_at = now if is_taken_back else None
        event = device.end(reason, now)
        return [event] if event is not None else []

    def _asleep(self, device: Device, timeout_ms: int, now: int, *, is_live: bool) -> Events:
        device.says_there = True
        if self._is_cut_off(device) or (device.is_guessed and not is_live):
            return []
        changes: dict[str, Any] = {"is_live": is_live, "idle": True, "timeout_ms": timeout_ms}
        event = (
            device.sighting(now, **changes)
            if device.is_open
            else device.opening(fresh_connection_id(), now, **changes)
        )
        device.is_asleep = True
        return [event]

    def _woken(self, device: Device, now: int, *, is_live: bool) -> Sighting:
        device.is_asleep, device.asleep_until = False, None
        return device.sighting(now, is_live=is_live, idle=False, timeout_ms=self.profile.timeout_ms)

    def _alive(self, device: Device, now: int, epoch: int) -> Events:
        """Return the event of a sign of life: one in `_beat_ms`, and one for each broker connection."""
        if self._is_cut_off(device):
            return []
        is_due = not 0 <= now - device.seen_at < self._beat_ms or device.seen_epoch != epoch
        device.seen_epoch = epoch
        if device.is_open:
            if device.is_asleep:
                return [self._woken(device, now, is_live=True)]
            return [device.sighting(now)] if is_due else []
        device.is_overruled, device.says_there = device.says_there is False, True
        if device.gone_at is not None and now - device.gone_at <= self.profile.late_will_ms:
            return [device.revival(now)]
        if device.is_guessed and device.connection_id is not None:
            return [device.opening(device.connection_id, now)]
        return [device.opening(fresh_connection_id(), now)]
