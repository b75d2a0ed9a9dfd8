"""Profile overlaps: two profiles must not read the same topic, or one device would have two names."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

from mqtt_presence.adapters.devices.profile import Profile, ProfileWords
from mqtt_presence.adapters.devices.topic_patterns import Pattern, parse_pattern
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.topic_filters import overlaps

_USUAL_NAMES = (
    "kitchen-lamp",
    "kitchen_lamp",
    "Lamp",
    "lamp7",
    "a8032ab636ec",
    "shellyplus1-a8032ab636ec",
    "7",
)
_WORD = re.compile(r"[A-Za-z0-9_-]{2,}")


def refuse_overlaps(profiles: Sequence[Profile]) -> None:
    """Refuse two profiles that would read the same topic.

    Whether two regular expressions share a name is tried with usual names and with the words of both.

    Raises:
        ConfigError: the message shows such a topic.

    """
    for one, other in combinations(profiles, 2):
        if one.words.yields or other.words.yields:
            continue
        for topic in _shared_topics(one, other):
            raise ConfigError(
                f"profile.{other.name}: {topic} is also read by profile.{one.name}: one needs a `where`"
            )


def presence_topics(words: ProfileWords) -> Iterator[str]:
    """Yield the topics that decide who is there."""
    yield from (entry.topic for entry in words.availability)
    yield from words.heartbeat
    if words.sleep is not None:
        yield words.sleep.topic


def _shared_topics(one: Profile, other: Profile) -> Iterator[str]:
    for left in _patterns(one):
        for right in _patterns(other):
            if overlaps(left.levels, right.levels):
                yield from _topics(one, left, other, right)


def _patterns(profile: Profile) -> list[Pattern]:
    topics = presence_topics(profile.words)
    return [pattern for topic in topics for pattern in parse_pattern(topic, profile.words.depth)]


def _topics(one: Profile, left: Pattern, other: Profile, right: Pattern) -> Iterator[str]:
    """Yield topics of both patterns that both profiles read, by usual names."""
    expressions = (*one.words.where.values(), *other.words.where.values())
    words = [word for expression in expressions for word in _WORD.findall(expression)]
    for name in (*_USUAL_NAMES, *words):
        levels = [
            b if a == "+" and b != "+" else name if a == "+" else a
            for a, b in zip(left.levels, right.levels, strict=True)
        ]
        if passes(one.words, left.names(levels)) and passes(other.words, right.names(levels)):
            yield "/".join(levels)


def passes(words: ProfileWords, names: dict[str, str]) -> bool:
    """Return whether the names of a topic fit the expressions of a profile."""
    return all(
        re.fullmatch(expression, names[name]) is not None
        for name, expression in words.where.items()
        if name in names
    )
