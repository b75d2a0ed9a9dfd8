"""Topic filters of MQTT: validity, matches and overlaps (MQTT 3.1.1 §4.7). Pure."""

from collections.abc import Sequence


def is_filter(text: str) -> bool:
    """Return whether a text is a well-formed topic filter (§4.7.1)."""
    *parents, last = text.split("/")
    has_no_misplaced_hash = all("#" not in level for level in parents) and (last == "#" or "#" not in last)
    has_no_misplaced_plus = all(level == "+" or "+" not in level for level in (*parents, last))
    return bool(text) and has_no_misplaced_hash and has_no_misplaced_plus


def matches(topic_filter: Sequence[str], topic: Sequence[str]) -> bool:
    """Return whether a filter matches a topic, both split at ``/`` (§4.7)."""
    for at, level in enumerate(topic_filter):
        if level == "#":
            return True
        if at >= len(topic) or level not in ("+", topic[at]):
            return False
    return len(topic_filter) == len(topic)


def overlaps(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether both filters match some topic, each split at ``/``."""
    for left, right in zip(one, other, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    if len(one) == len(other):
        return True
    longer, length = (one, len(other)) if len(one) > len(other) else (other, len(one))
    return len(longer) == length + 1 and longer[-1] == "#"  # "a/#" matches "a" too
