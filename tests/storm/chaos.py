"""Five bridges that are killed, frozen and stopped at random, and what became of their seats."""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import psycopg

from mqtt_presence.store import LEASE_MS
from tests.support.bridges import BridgeProcess

_MOST_AWAY = 2
_SEATS = (
    "SELECT id, epoch, COALESCE(expires_at >= EXTRACT(EPOCH FROM clock_timestamp()) * 1000, FALSE) FROM seats"
)


class SeatWatch:
    """Looks at the seats again and again: how often they were taken, and for how long they had no holder.

    Args:
        database: its URL.

    """

    def __init__(self, database: str) -> None:
        self._connection = psycopg.connect(database, autocommit=True)
        self._held_s: dict[int, float] = {}
        self._first: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self.longest_gap_s = 0.0

    def look(self) -> bool:
        """Return whether all seats are held."""
        now_s = time.monotonic()
        rows = self._connection.execute(_SEATS).fetchall()
        for seat, epoch, is_held in rows:
            before_s = self._held_s.setdefault(seat, now_s)
            self._first.setdefault(seat, epoch)
            assert epoch >= self._epochs.get(seat, 0), "the epoch of a seat went back"
            self._epochs[seat] = epoch
            if is_held:
                self._held_s[seat] = now_s
            else:
                self.longest_gap_s = max(self.longest_gap_s, now_s - before_s)
        return bool(rows) and all(row[2] for row in rows)

    @property
    def takeovers(self) -> int:
        """How often seats were taken since the first look."""
        return sum(self._epochs.values()) - sum(self._first.values())

    def close(self) -> None:
        self._connection.close()


class Chaos:
    """Kills, freezes and stops bridges; at most two are away at once.

    Args:
        bridges: run.
        seed: of all that it decides.

    """

    def __init__(self, bridges: list[BridgeProcess], seed: int) -> None:
        self._bridges = bridges
        self._random = random.Random(seed)
        self._back_s: dict[int, tuple[float, str]] = {}
        """When those that are away come back, and how they went."""
        self._logged: dict[int, int] = {}
        """The lengths of the logs when the processes were started."""
        self._next_s = time.monotonic() + 3
        self.done: Counter[str] = Counter()

    def step(self) -> None:
        """Do what is due."""
        now_s = time.monotonic()
        for number, (back_s, how) in list(self._back_s.items()):
            if now_s >= back_s:
                self._bring_back(number, how)
        if now_s < self._next_s or len(self._back_s) >= _MOST_AWAY:
            return
        self._next_s = now_s + self._random.uniform(1, 7)
        number = self._random.choice([n for n in range(len(self._bridges)) if n not in self._back_s])
        how = self._random.choice(("kill", "kill", "freeze", "stop"))
        bridge = self._bridges[number]
        away_s = self._random.uniform(0, 8)
        if how == "stop" and not self._has_begun(number):
            how = "kill"
        self.done[how] += 1
        if how == "kill":
            bridge.kill()
        elif how == "stop":
            code = bridge.stop()
            assert code == 0, f"bridge {number} has ended with {code}:\n{bridge.log()[-2000:]}"
        else:
            bridge.signal(signal.SIGSTOP)
            away_s = LEASE_MS / 1000 + self._random.uniform(1, 6)
        self._back_s[number] = now_s + away_s, how

    def _has_begun(self, number: int) -> bool:
        """Return whether it has logged something since its start: earlier, Python handles no signal for it."""
        return len(self._bridges[number].log()) > self._logged.get(number, 0)

    def _bring_back(self, number: int, how: str) -> None:
        del self._back_s[number]
        if how == "freeze":
            self._bridges[number].signal(signal.SIGCONT)
        else:
            self._logged[number] = len(self._bridges[number].log())
            self._bridges[number].start(ready=False)

    def end(self) -> None:
        """Bring all back."""
        for number, (_, how) in list(self._back_s.items()):
            self._bring_back(number, how)


def zombies(logs: list[Path]) -> int:
    """Count how often a process noticed that it had lost its seat."""
    return sum(log.read_text(errors="replace").count("has lost its place") for log in logs)
