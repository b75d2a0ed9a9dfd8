"""``mqtt-presence profiles``: the device profiles, and which of them recognise devices on a broker."""

from collections.abc import Sequence
from typing import Annotated

import typer

from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.adapters.devices.profile_files import load_profile, shipped_names
from mqtt_presence.adapters.devices.sparkplug import has_protobuf
from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.cli.output import Cell, print_error, print_line, print_table
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.protocol.watchers import fresh_watcher_id
from mqtt_presence.settings import Settings, parse_duration
from mqtt_presence.tools.profile_trial import Trial, listen

_TRY = "try"
_SHOWN = 5
"""Devices of a profile that are shown by name."""


@with_settings("broker", "prefix", *TLS)
def command(
    settings: Settings,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="try NAME",
            help="try: listen on the broker, and show the devices that each profile would see.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        str, typer.Option("--seconds", help="How long to listen.", metavar="DURATION")
    ] = "10s",
) -> None:
    """List the device profiles, or try them on a broker.

    A trial needs no database, writes nothing, and needs read rights only. Without names it tries all
    profiles, and prints the lines for the settings file.

    Exit codes: 0 shown, also when no device was seen; 1 the broker cannot be used; 2 a setting is wrong.
    """
    action, *names = words or [""]
    if action not in {"", _TRY}:
        raise ConfigError(f"profiles {action}: there is only `profiles` and `profiles {_TRY}`")
    profiles = _profiles(settings, names)
    if not action:
        print_table(("PROFILE", "FLEET", "AVAILABILITY"), map(_row, profiles))
        return
    logs.errors_only()
    listen_s = parse_duration("seconds", seconds)
    if not has_protobuf():
        print_error("sparkplug is left out: pip install 'mqtt-presence-bridge[sparkplug]'")
        profiles = [profile for profile in profiles if profile.words.decoder != "sparkplug"]
    trial = Trial(profiles)
    denied = listen(endpoint_of(settings, fresh_watcher_id()), trial, listen_s)
    if denied:
        print_error(f"the broker does not let this user read {', '.join(denied)}")
    _show(trial)


def _profiles(settings: Settings, names: Sequence[str]) -> list[Profile]:
    known = dict.fromkeys((*shipped_names(), *settings.profile))
    for name in names:
        if name not in known:
            raise ConfigError(f"profiles {_TRY} {name}: there is no such profile")
    topics = Topics(settings.prefix)
    return [load_profile(name, settings.profile, topics) for name in names or known]


def _row(profile: Profile) -> tuple[Cell, ...]:
    topics = dict.fromkeys(entry.topic for entry in profile.words.availability)
    shown = ", ".join(topics) or "births and deaths in protobuf"
    return Cell(profile.name), Cell(profile.words.title or "-"), Cell(shown)


def _show(trial: Trial) -> None:
    seen = trial.seen()
    if not seen:
        print_line("No profile recognises a device on this broker.")
        return
    titles = {profile.name: profile.words.title or profile.name for profile in trial.profiles}
    for name, devices in seen.items():
        states = [device.state for device in devices]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
        shown = ", ".join(device.user for device in devices[:_SHOWN])
        more = f" and {len(devices) - _SHOWN} more" if len(devices) > _SHOWN else ""
        print_line(f"{len(devices)} {titles[name]} ({counts}): {shown}{more}")
    print_line("")
    print_line("Put these lines into your settings file:")
    print_line("")
    for line in trial.settings():
        print_line(line)
