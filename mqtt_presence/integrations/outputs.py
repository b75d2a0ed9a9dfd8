"""The list of outputs: one line for each format in which a bridge publishes; and all of them as one."""

from collections.abc import Callable, Iterable, Sequence

from mqtt_presence.integrations.port import Output
from mqtt_presence.integrations.presence import PresenceOutput
from mqtt_presence.protocol.publications import Publication
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import Outcome, UserId, UserPresence

MakeOutput = Callable[[Topics, bool], Output]
"""Makes an output, from the topics in use and the setting `publish_private`."""
OUTPUTS: dict[str, MakeOutput] = {
    "presence": PresenceOutput,
}
"""Outputs that every bridge uses, by name; the order is the order of their messages."""


class Outputs:
    """Several outputs as one; itself an `Output`.

    Args:
        outputs: in the order of their messages for one user.

    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._given = self._outputs = list(outputs)

    def put_first(self, first: Sequence[Output]) -> None:
        """Have outputs before the given ones; they replace those of an earlier call."""
        self._outputs = [*first, *self._given]

    def publications(self, outcome: Outcome) -> Iterable[Publication]:
        """See `Output`."""
        for output in self._outputs:
            yield from output.publications(outcome)

    def retained(self, user: UserPresence) -> Iterable[Publication]:
        """See `Output`."""
        for output in self._outputs:
            yield from output.retained(user)

    def topics(self, user_id: UserId) -> Iterable[str]:
        """See `Output`."""
        for output in self._outputs:
            yield from output.topics(user_id)
