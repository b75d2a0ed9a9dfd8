"""When all retained messages have arrived (mqtt_presence/client/retained_reader.py), without a broker."""

import math

import pytest

from mqtt_presence.client.retained_reader import RetainedQuestion


@pytest.mark.parametrize(
    ("filters", "subscriptions"),
    [
        (["status/alice", "status/bob"], [["status/alice", "status/bob"], ["bridge/state"]]),
        (["status/+"], [["status/+"]]),
        (["status/#"], [["status/#"]]),
        (["bridge/state"], [["bridge/state"]]),
    ],
)
def test_marker_follows_topics(filters: list[str], subscriptions: list[list[str]]) -> None:
    """Filters with wildcards have no marker, nor does a question about the marker itself."""
    assert RetainedQuestion(filters, "bridge/state", 1.0).subscriptions == subscriptions


def test_answer_is_complete_when_nothing_came_for_a_while_after_the_grant() -> None:
    """Messages before the grant do not count; each later message restarts the wait."""
    question = RetainedQuestion(["status/+"], "bridge/state", 2.0)
    question.came(5.0)
    assert question.wait_s(1_000.0) == math.inf
    question.granted(10.0)
    assert question.wait_s(10.5) == 1.5
    question.came(11.0)
    assert question.wait_s(12.0) == 1.0
    assert question.wait_s(13.0) == 0.0
