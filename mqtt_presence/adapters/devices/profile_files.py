"""Profile files: loads and checks the shipped profiles and those of the settings."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from mqtt_presence.adapters.devices.payload_values import Value
from mqtt_presence.adapters.devices.profile import MEANINGS, Availability, Profile, ProfileWords, Tables
from mqtt_presence.adapters.devices.profile_overlaps import refuse_overlaps
from mqtt_presence.adapters.devices.topic_patterns import Pattern, names_in, parse_pattern, topic_names
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.topic_filters import overlaps
from mqtt_presence.protocol.durations import read_duration
from mqtt_presence.protocol.topics import Topics, roots

_SHIPPED = Path(__file__).with_name("shipped")
_NAME = re.compile(r"[a-z0-9_]{1,32}")
_PRIVATE = re.compile(r"(?:^|[._])(?:lat|lon|lng|latitude|longitude|bssid|ssid)\d*(?:$|[._])", re.IGNORECASE)
_MAX_DEPTH = 8


@cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped profiles, in alphabetical order."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load_profiles(names: Sequence[str], tables: Tables, topics: Topics) -> list[Profile]:
    """Return the profiles that the settings turn on.

    Args:
        names: the setting `profiles`.
        tables: the tables ``[profile.NAME]``; a name that is not shipped is on by its table alone.
        topics: the topics under the prefix in use, which no profile may read.

    Raises:
        ConfigError: a profile is wrong, or two read the same topic; the message names the key.

    """
    for name in names:
        if name not in shipped_names() and name not in tables:
            raise ConfigError(f"profiles: there is no profile {name!r} (mqtt-presence profiles lists them)")
    own = [name for name in tables if name not in shipped_names()]
    loaded = [load_profile(name, tables, topics) for name in dict.fromkeys((*names, *own))]
    for name in tables:  # a table of a profile that is off is checked too
        if name not in {profile.name for profile in loaded}:
            load_profile(name, tables, topics)
    refuse_overlaps(loaded)
    return loaded


def load_profile(name: str, tables: Tables, topics: Topics) -> Profile:
    """Return one profile: the shipped one, with the keys of its table in the settings instead.

    Raises:
        ConfigError: the profile is wrong.

    """
    where = f"profile.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a name must be 1 to 32 lower-case letters, digits and _")
    given = {**_shipped(name), **tables.get(name, {})}
    try:
        words = msgspec.convert(given, ProfileWords)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}{_plainly(str(error))}") from None
    try:
        return _checked(name, words, topics)
    except ValueError as error:
        raise ConfigError(f"{where}.{error}") from None


def _shipped(name: str) -> Mapping[str, Any]:
    if name not in shipped_names():
        return {}
    return tomllib.loads((_SHIPPED / f"{name}.toml").read_text("utf-8"))


def _plainly(message: str) -> str:
    """Write msgspec's ``message - at `$.key[0]` `` as ``.key[0]: message``."""
    text, _, place = message.partition(" - at `$")
    return f"{place.rstrip('`')}: {text[0].lower()}{text[1:]}"


def _checked(name: str, words: ProfileWords, topics: Topics) -> Profile:
    user = words.user if words.user is not None else f"{name}:{{device}}"
    profile = Profile(
        name,
        words,
        user,
        words.client if words.client is not None else name,
        late_will_ms=_duration_ms("late_will", words.late_will),
        timeout_ms=_duration_ms("timeout", words.timeout),
        sleep_timeout_ms=_duration_ms("sleep_timeout", words.sleep_timeout),
        slack_ms=_duration_ms("sleep.slack", words.sleep.slack) if words.sleep else 0,
    )
    if not 1 <= words.depth <= _MAX_DEPTH:
        raise ValueError(f"depth: must be 1 to {_MAX_DEPTH}")
    if words.decoder != "sparkplug" and not words.availability and not words.heartbeat:
        raise ValueError("availability: a profile needs at least one topic")
    for key, expression in words.where.items():
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"where.{key}: no regular expression: {error}") from None
    for key, topic, fixed in _topics_of(words):
        _check_topic(key, parsed(key, topic, words.depth), topics)
        missing = (names_in(user) | names_in(profile.client)) - topic_names(topic) - fixed
        if missing and not key.startswith(("parent", "meta_list")):
            raise ValueError(f"{key}: {topic!r} lacks {{{min(missing)}}}, which the user or client needs")
    for number, entry in enumerate(words.availability):
        _check_values(f"availability[{number}]", entry)
    for key, field, path in _fields_of(words):
        if _PRIVATE.search(field) or _PRIVATE.search(path):
            raise ValueError(f"{key}.{field}: positions and network names are never kept")
    return profile


def parsed(key: str, topic: str, depth: int) -> list[Pattern]:
    """Return the patterns of a topic; the error of a wrong one names the key."""
    try:
        return parse_pattern(topic, depth)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _topics_of(words: ProfileWords) -> Iterator[tuple[str, str, set[str]]]:
    """Yield key, topic and names that need no level of the topic."""
    for number, entry in enumerate(words.availability):
        yield f"availability[{number}].topic", entry.topic, {"device"} if entry.device is not None else set()
    for number, topic in enumerate(words.heartbeat):
        yield f"heartbeat[{number}]", topic, set()
    for number, meta in enumerate(words.meta):
        yield f"meta[{number}].topic", meta.topic, set()
    if words.sleep is not None:
        yield "sleep.topic", words.sleep.topic, set()
    for number, parent in enumerate(words.parents):
        yield f"parent[{number}].topic", parent.topic, set()
    if words.meta_list is not None:
        yield "meta_list.topic", words.meta_list.topic, set()


def _check_topic(key: str, patterns: Sequence[Pattern], topics: Topics) -> None:
    ours = [f"{root}#".split("/") for root in roots(topics.prefix)]
    for pattern in patterns:
        if pattern.levels[0] != "+" and any(overlaps(pattern.levels, own) for own in ours):
            raise ValueError(f"{key}: {pattern.topic_filter} is a topic of the presence protocol itself")


def _check_values(key: str, entry: Availability) -> None:
    values: list[Value] = []
    for meaning in MEANINGS:
        for value in getattr(entry, meaning):
            if entry.path is None and not isinstance(value, str):
                raise ValueError(
                    f"{key}.{meaning}: without path the values are texts, so {value!r} needs quotes"
                )
            if value in values:
                raise ValueError(f"{key}.{meaning}: {value!r} has two meanings")
            values.append(value)
    if not values:
        raise ValueError(f"{key}: needs values: {', '.join(MEANINGS)}")


def _fields_of(words: ProfileWords) -> Iterator[tuple[str, str, str]]:
    for number, meta in enumerate(words.meta):
        yield from ((f"meta[{number}].fields", field, path) for field, path in meta.fields.items())
    if words.meta_list is not None:
        yield from (("meta_list.fields", field, path) for field, path in words.meta_list.fields.items())


def _duration_ms(key: str, value: str | float) -> int:
    try:
        duration_s = read_duration(str(value))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if not 0 <= duration_s <= 315_360_000:
        raise ValueError(f"{key}: must be 0 to ten years")
    return round(duration_s * 1000)
