"""Configuration of the bridge, made from the settings."""

import re
from functools import partial

from mqtt_presence.adapters.brokers.dynamic_security import DYNAMIC_SECURITY
from mqtt_presence.adapters.brokers.emqx_clients import EmqxClients
from mqtt_presence.adapters.devices.device_adapter import DeviceAdapter
from mqtt_presence.adapters.devices.profile_files import load_profiles
from mqtt_presence.bridge.config import BridgeConfig, Implicit, Limits
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.integrations.homeassistant import Discovery
from mqtt_presence.integrations.notifications.receivers import read_receivers, sending_of
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import RuleSettings
from mqtt_presence.settings import Settings, path_text


def bridge_config(settings: Settings) -> BridgeConfig:
    """Return the configuration of the bridge.

    Raises:
        ConfigError: a setting is wrong.

    """
    return BridgeConfig(
        link=partial(link_config, settings),
        topics=Topics(settings.prefix, settings.seat_inputs),
        rules=RuleSettings(
            idle_threshold_ms=_millis(settings.idle_threshold),
            expire_after_ms=_millis(settings.expire_after) if settings.expire_after else None,
            grace_ms=_millis(settings.grace),
            implicit_keep_ms=_millis(settings.implicit_keep),
            max_connections=settings.max_connections or None,
        ),
        limits=Limits(
            records=settings.max_records or None,
            rate=settings.max_rate or None,
            users=settings.max_users or None,
        ),
        confirm_within_ms=_millis(settings.confirm_within),
        retention_ms=_millis(settings.retention) if settings.retention else None,
        publish_private=settings.publish_private,
        source=settings.source,
        seats=settings.seats,
        homeassistant=_discovery(settings),
        implicit=_implicit(settings),
    )


def _implicit(settings: Settings) -> Implicit | None:
    if settings.implicit == "off":
        return None
    match = None if settings.implicit_match is None else re.compile(settings.implicit_match)
    asks_plugin = settings.implicit_list == DYNAMIC_SECURITY
    url = None if asks_plugin else settings.implicit_list
    read_list = None if url is None else EmqxClients(url).read
    return Implicit(settings.implicit, match, settings.implicit_after, read_list, asks_plugin)


def link_config(settings: Settings, client_id: str) -> LinkConfig:
    """Return the configuration of the bridge's link to the broker.

    Args:
        settings: the broker's URL, certificates and keep alive.
        client_id: the client id of the bridge, from the database.

    """
    return LinkConfig(
        nodes=parse_nodes(settings.broker),
        client_id=client_id,
        keep_alive_s=settings.keep_alive,
        ca_file=path_text(settings.ca_file),
        cert_file=path_text(settings.cert_file),
        key_file=path_text(settings.key_file),
    )


def fleets(settings: Settings) -> list[DeviceAdapter]:
    """Return the adapter of the device profiles in use, if there are any.

    Raises:
        ConfigError: a profile is wrong.

    """
    profiles = load_profiles(settings.profiles, settings.profile, Topics(settings.prefix))
    return [DeviceAdapter(profiles)] if profiles else []


def notifications(settings: Settings) -> NotificationConfig:
    """Return the configuration of notifications.

    Raises:
        ConfigError: a `[[notify]]` table is wrong.

    """
    return NotificationConfig(
        receivers=read_receivers(settings.notify),
        database=settings.database,
        make_sending=partial(
            sending_of, prefix=settings.prefix, private=settings.notify_private, now=wall_clock
        ),
        keep_ms=_millis(settings.notify_keep),
    )


def _discovery(settings: Settings) -> Discovery | None:
    if not settings.homeassistant:
        return None
    return Discovery(settings.homeassistant_prefix, settings.homeassistant_match, settings.prefix)


def _millis(duration_s: float) -> int:
    return round(duration_s * 1000)
