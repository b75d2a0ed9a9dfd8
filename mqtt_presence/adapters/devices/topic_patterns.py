"""Topic patterns: topic filters whose wildcards have names, ``tele/{device}/LWT``. Pure."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

_NAMED = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")
_ANY_NAMED = re.compile(r"\{([a-z_]+)\}")


class Pattern(Struct, frozen=True):
    """A pattern for one number of levels."""

    levels: tuple[str, ...]
    """The levels of the topic filter, with ``+`` for each level of a name."""
    slots: tuple[tuple[str, int, int], ...]
    """Each name with the first of its levels and the level after its last."""

    @property
    def topic_filter(self) -> str:
        """The topic filter to subscribe to."""
        return "/".join(self.levels)

    def names(self, topic: Sequence[str]) -> dict[str, str]:
        """Return the text of each name in a topic that passes the filter."""
        return {name: "/".join(topic[start:stop]) for name, start, stop in self.slots}


def parse_pattern(text: str, depth: int) -> list[Pattern]:
    """Return the patterns of a topic: one, or with a name of several levels one for each number of levels.

    Args:
        text: a topic with names: ``{name}`` is one level, ``{name...}`` one to `depth` levels.
        depth: the greatest number of levels of such a name.

    Raises:
        ValueError: the text is no pattern that a profile may use.

    """
    levels = text.split("/")
    named = [_NAMED.fullmatch(level) for level in levels]
    for level, found in zip(levels, named, strict=True):
        if found is None and (set("+#{}\0") & set(level) or not level):
            raise ValueError(f"{text!r}: the level {level!r} must be a text, {{name}} or {{name...}}")
    if all(named):
        raise ValueError(f"{text!r}: at least one level must be a text")
    if levels[0] == "$CONTROL":
        raise ValueError(f"{text!r}: the topics under $CONTROL are the broker's own")
    if sum(found is not None and found[2] is not None for found in named) > 1:
        raise ValueError(f"{text!r}: one name at most may have several levels")
    has_several = any(found is not None and found[2] for found in named)
    return [_pattern(levels, named, size) for size in range(1, depth + 1 if has_several else 2)]


def _pattern(levels: Sequence[str], named: Sequence[re.Match[str] | None], size: int) -> Pattern:
    wild: list[str] = []
    slots: list[tuple[str, int, int]] = []
    for level, found in zip(levels, named, strict=True):
        width = size if found is not None and found[2] else 1
        if found is not None:
            slots.append((found[1], len(wild), len(wild) + width))
        wild += ["+"] * width if found is not None else [level]
    return Pattern(tuple(wild), tuple(slots))


def topic_names(text: str) -> set[str]:
    """Return the names in a pattern that `parse_pattern` takes."""
    return {name for pattern in parse_pattern(text, 1) for name, _, _ in pattern.slots}


def names_in(text: str) -> set[str]:
    """Return the names in the template of a user or client, such as ``tasmota:{device}``."""
    return set(_ANY_NAMED.findall(text))


def fill(template: str, names: Mapping[str, str]) -> str:
    """Return the template with its names replaced; a ``/`` within a name becomes ``.``."""
    return _ANY_NAMED.sub(lambda found: names[found[1]].replace("/", "."), template)
