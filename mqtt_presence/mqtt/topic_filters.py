"""mqtt.topic_filters."""

from collections.abc import Sequence


def is_filter(text: str) -> bool:
    """Say whether a text is a well-formed topic filter (MQTT 3.1.1 §4.7.1)."""
    *parents, last = text.split("/")
    plain = all("#" not in level for level in parents) and (last == "#" or "#" not in last)
    return bool(text) and plain and all(level == "+" or "+" not in level for level in (*parents, last))


def matches(pattern: Sequence[str], topic: Sequence[str]) -> bool:
    """Say whether a filter matches a topic, both split at ``/`` (MQTT 3.1.1 §4.7)."""
    for at, level in enumerate(pattern):
        if level == "#":
            return True
        if at >= len(topic) or level not in ("+", topic[at]):
            return False
    return len(pattern) == len(topic)


def overlaps(one: Sequence[str], other: Sequence[str]) -> bool:
    """Say whether some topic is matched by both filters."""
    for left, right in zip(one, other, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    if len(one) == len(other):
        return True
    longer, length = (one, len(other)) if len(one) > len(other) else (other, len(one))
    return len(longer) == length + 1 and longer[-1] == "#"  # "a/#" matches "a" too
