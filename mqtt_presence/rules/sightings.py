"""Sightings: what a device's own topics change in its record (rule D2). Pure."""

from msgspec.structs import replace

from mqtt_presence.rules import activity
from mqtt_presence.rules.model import NO_META, Connection, RuleSettings, Sighting


def shown(known: Connection, sighting: Sighting, settings: RuleSettings) -> Connection:
    """Return an open record with everything that a sighting mentions.

    The record counts as one that reports by itself, so rule B1 never makes it idle.
    """
    idle = known.idle is True if sighting.idle is None else sighting.idle
    becomes_idle = idle and known.idle is not True
    fresh = replace(
        known,
        last_seen=max(known.last_seen, sighting.now) if sighting.is_live else known.last_seen,
        reports=True,
        idle=idle,
        last_activity=max(known.last_activity or 0, sighting.now) if becomes_idle else known.last_activity,
        timeout_ms=known.timeout_ms if sighting.timeout_ms is None else sighting.timeout_ms or None,
        meta=known.meta if sighting.meta is None else None if sighting.meta == NO_META else sighting.meta,
    )
    due = activity.deadline(fresh, settings) if fresh.opened_at is not None else None
    if known.timeout_ms == fresh.timeout_ms and due is not None and known.check_at is not None:
        due = min(due, known.check_at)  # a later deadline need not be written: the check finds it
    return replace(fresh, check_at=due)
