"""A tree of topics or topic filters, level by level (MQTT 3.1.1 §4.7). Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class TopicTree(Generic[T]):
    """Values by topic or filter, level by level: a lookup walks only the branches that can match."""

    __slots__ = ("_next_number", "children", "number", "order", "value")

    def __init__(self, number: int = 0) -> None:
        self.children: dict[str, TopicTree[T]] = {}
        self.value: T | None = None
        self.number = number  # among its siblings, ascending in the order in which they were added
        self.order: list[TopicTree[T]] = []
        self._next_number = 1

    def get(self, levels: Sequence[str]) -> T | None:
        """Return the value at exactly this topic or filter."""
        node: TopicTree[T] | None = self
        for level in levels:
            node = node.children.get(level) if node is not None else None
        return None if node is None else node.value

    def put(self, levels: Sequence[str], value: T | None) -> None:
        """Set a value; None takes it away, with the branches that are empty then."""
        path = [self]
        for level in levels:
            path.append(path[-1].child(level))
        path[-1].value = value
        for level, parent, node in zip(reversed(levels), reversed(path[:-1]), reversed(path), strict=False):
            if node.value is not None or node.children:
                break
            del parent.children[level]
            del parent.order[bisect_left(parent.order, node.number, key=_number_of)]

    def child(self, level: str) -> "TopicTree[T]":
        """Return the branch of a level; add it if it is not there."""
        child = self.children.get(level)
        if child is None:
            self.children[level] = child = TopicTree(self._next_number)
            self._next_number += 1
            self.order.append(child)
        return child

    def _children_in_order(self) -> "Iterator[TopicTree[T]]":
        """Yield the children; changes of the tree between two of them are allowed."""
        number = 0
        while (at := bisect_right(self.order, number, key=_number_of)) < len(self.order):
            child = self.order[at]
            number = child.number
            yield child

    def matching_filters(self, topic: Sequence[str], at: int = 0) -> Iterator[T]:
        """Yield the values whose filters match a topic."""
        if (rest := self.children.get("#")) is not None and rest.value is not None:
            yield rest.value
        if at == len(topic):
            if self.value is not None:
                yield self.value
            return
        for level in (topic[at], "+"):
            if (child := self.children.get(level)) is not None:
                yield from child.matching_filters(topic, at + 1)

    def matching_topics(self, topic_filter: Sequence[str], at: int = 0) -> Iterator[T | None]:
        """Yield the values whose topics a filter matches; None for each other step of the search.

        The tree may change between two steps. A value that is there throughout is yielded once.
        """
        level = topic_filter[at] if at < len(topic_filter) else None
        if level in (None, "#") and self.value is not None:
            yield self.value
        if level is None:
            return
        if level in ("+", "#"):
            for child in self._children_in_order():
                yield None
                yield from child.matching_topics(topic_filter, at + (level == "+"))
        elif (only := self.children.get(level)) is not None:
            yield from only.matching_topics(topic_filter, at + 1)


def _number_of(node: TopicTree[T]) -> int:
    return node.number
