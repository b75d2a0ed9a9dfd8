"""Probes of the will: whether it comes, when, and in which order when a client is taken over."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mqtt_presence.protocol.topics import LOGIN, WILL
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

KEEP_ALIVE_S = 2
"""Of the client that falls silent."""
SILENCE_S = 20.0
"""How long to wait for its will."""
RUNS = 5
"""Takeovers of each kind."""
_PROMPT_S = 1.0


def will_cut(lab: Prober) -> Finding:
    """Does the will come when the socket is cut?"""
    client_id, payload = lab.new_id(), lab.mark()
    try:
        peer = lab.client(client_id, will=(lab.own(client_id, WILL), payload))
    except (RefusedError, ClosedError) as error:
        return _refused(lab, "will-cut", error)
    peer.cut()
    began = time.monotonic()
    came = lab.heard(payload)
    return judge_will_cut(None if came is None else came.at - began)


def _refused(lab: Prober, name: str, error: RefusedError | ClosedError) -> Finding:
    """Tell of a CONNECT that was refused with a will.

    Raises:
        BrokerError: without a will it is refused as well.

    """
    lab.client().disconnect()
    how = f"reason {error.code:#x}" if isinstance(error, RefusedError) else "it closes the connection"
    return failed(
        name,
        f"a client with a will on its own topic is refused at CONNECT ({how}), without one it gets in",
        "clients that leave a will, as they should, cannot connect at all",
    )


def judge_will_cut(after_s: float | None) -> Finding:
    """Judge how long the will took; None: it did not come."""
    name = "will-cut"
    if after_s is None:
        return failed(name, "no will after the socket was cut", "who is gone stays online")
    text = f"the will came {max(0, round(after_s * 1000))} ms after the socket was cut"
    if after_s > _PROMPT_S:
        return warned(name, text, "who is gone is shown online for that long")
    return passed(name, text)


def will_disconnect(lab: Prober) -> Finding:
    """Does no will come when the client leaves on purpose?"""
    name = "will-disconnect"
    client_id, payload = lab.new_id(), lab.mark()
    lab.client(client_id, will=(lab.own(client_id, WILL), payload)).disconnect()
    lab.until(lambda: lab.came(lab.observer, payload), lab.quiet_s)
    if lab.came(lab.observer, payload):
        return failed(name, "a will after DISCONNECT", "who leaves on purpose is recorded as lost")
    return passed(name, "no will after DISCONNECT")


def bridge_will(lab: Prober) -> Finding:
    """Does the bridge's own will come?"""
    name = "bridge-will"
    payload = lab.mark()
    listener = lab.client()
    lab.subscribe(listener, lab.bridge_topic())
    try:
        lab.bridge(will=(lab.bridge_topic(), payload)).cut()
    except (RefusedError, ClosedError) as error:
        return failed(name, f"refused: {error}", "the bridge cannot connect")
    came = lab.until(lambda: lab.came(listener, payload))
    listener.disconnect()
    if not came:
        return failed(name, "no will of the bridge", "clients do not learn that the bridge has died")
    return passed(name, "the will of the bridge comes")


def will_silence(lab: Prober) -> Finding:
    """Does the will come when the client says nothing any more?"""
    if lab.silence is None:
        try:
            lab.begin_silence(KEEP_ALIVE_S)
        except (RefusedError, ClosedError) as error:
            return _refused(lab, "will-silence", error)
    assert lab.silence is not None
    peer, payload, began = lab.silence
    keep_alive_s = int(peer.facts.get("ServerKeepAlive", KEEP_ALIVE_S))
    came = lab.heard(payload, max(0.0, began + SILENCE_S - time.monotonic()))
    return judge_silence(None if came is None else came.at - began, keep_alive_s)


def judge_silence(after_s: float | None, keep_alive_s: int) -> Finding:
    """Judge how long after the last sign of life the will came; None: it did not, in `SILENCE_S`."""
    name = "will-silence"
    if after_s is None:
        if keep_alive_s * 1.5 > SILENCE_S:
            return note(name, f"cannot tell: the broker makes it a keep alive of {keep_alive_s} s")
        return failed(
            name,
            f"no will within {SILENCE_S:g} s of silence, with a keep alive of {keep_alive_s} s",
            "who loses the network without a word stays online, until expire_after or the login's timeout",
        )
    text = f"the will came after {after_s:.1f} s of silence, with a keep alive of {keep_alive_s} s"
    if after_s > keep_alive_s * 1.5 + 6:  # a broker may look every five seconds only
        return warned(
            name, text, "who loses the network without a word is shown online for longer than expected"
        )
    return passed(name, text)


class Pair(NamedTuple):
    """Which connection takes over which."""

    old_is_clean: bool
    new_is_clean: bool

    def __str__(self) -> str:
        words = {True: "clean", False: "persistent"}
        return f"{words[self.old_is_clean]} to {words[self.new_is_clean]}"


PAIRS = tuple(Pair(old, new) for old in (True, False) for new in (True, False))


def takeover(lab: Prober) -> Finding:
    """In which order do the old connection's will and the new one's login come?"""
    return judge_takeover({pair: Counter(_take_over(lab, pair)) for pair in PAIRS})


def judge_takeover(seen: Mapping[Pair, Mapping[str, int]]) -> Finding:
    """Judge the orders seen.

    Args:
        seen: for each pair how often it was ``WN`` (the old will, then the new login), ``NW``, ``N`` (no
            will), and any other (the new login has not come).

    """
    name = "takeover"
    parts = [f"{pair}: {_words(orders)}" for pair, orders in seen.items()]
    if len(set(map(_words, seen.values()))) == 1:
        parts = [f"always: {_words(next(iter(seen.values())))}"]
    text = "; ".join(parts)
    orders = {order for counts in seen.values() for order in counts}
    if orders - {"WN", "NW", "N"}:
        return failed(name, text, "who comes back at once, under the same client id, is not seen")
    if "NW" in orders:
        return warned(
            name,
            text,
            "the late will ends the new connection of a client that sends no connectionId; with one in login "
            "and will it does not",
            "give every connection a connectionId, the same in its login and its will",
        )
    if "N" in orders:
        return passed(name, f"{text} (without a will, the login ends the record of the old connection)")
    return passed(name, text)


_ORDERS = {"WN": "will, then login", "NW": "login, then will", "N": "login, no will"}


def _words(orders: Mapping[str, int]) -> str:
    total = sum(orders.values())
    if len(orders) == 1:
        return _ORDERS.get(next(iter(orders)), "the new login does not come")
    return ", ".join(f"{_ORDERS.get(o, 'no login')} {n} of {total}" for o, n in sorted(orders.items()))


def _take_over(lab: Prober, pair: Pair) -> list[str]:
    runs: list[tuple[ProbeClient, bytes, ProbeClient, bytes]] = []
    ids = [lab.new_id("over") for _ in range(RUNS)]
    old = [
        (lab.client(i, mqtt5=False, clean=pair.old_is_clean, will=(lab.own(i, WILL), will)), will)
        for i, will in ((i, lab.mark()) for i in ids)
    ]
    for client_id, (peer, will) in zip(ids, old, strict=True):
        login = lab.mark()
        first = lab.own(client_id, LOGIN), login
        new = lab.client(client_id, mqtt5=False, clean=pair.new_is_clean, first=first)
        runs.append((peer, will, new, login))
    lab.until(lambda: all(lab.came(lab.observer, login) for *_, login in runs))
    lab.until(lambda: all(lab.came(lab.observer, will) for _, will, *_ in runs), 2 * lab.quiet_s)
    orders = []
    for peer, will, new, login in runs:
        came = [m.payload for m in lab.observer.received if m.payload in (will, login)]
        orders.append("".join("W" if payload == will else "N" for payload in dict.fromkeys(came)))
        peer.disconnect()
        new.disconnect()
    return orders
