"""Fair turns: how long one network connection may keep the event loop busy before others are served.

Packets differ in cost by their kind and by everyone's data, so turns are measured in time.
"""

import asyncio
from typing import Final

TURN_S = 0.002
"""Seconds in which packets of one connection are handled in one turn."""
BRIDGE_TURN_S = 0.1
"""The same for the bridge: all that it publishes in one turn leaves in one piece to each subscriber."""


class Turn:
    """The current turn of one connection.

    Usage: ``began = turn.clock()``, handle a packet, then ``if turn.is_over_after(began): await
    turn.pass_on()``.
    """

    __slots__ = ("_spent_s", "clock", "limit_s")

    def __init__(self) -> None:
        self.clock: Final = asyncio.get_running_loop().time
        self.limit_s = TURN_S
        self._spent_s = 0.0

    def is_over_after(self, began: float) -> bool:
        """Add the time since `began`; return whether the turn is over."""
        self._spent_s += self.clock() - began
        return self._spent_s >= self.limit_s

    async def pass_on(self) -> None:
        """Let the other connections have their turns, then begin the next one."""
        self._spent_s = 0.0
        await asyncio.sleep(0)
