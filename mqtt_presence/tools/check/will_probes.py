"""Probes of the will: its publication, its delay, and its order at a takeover."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mqtt_presence.protocol.topics import LOGIN, WILL
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, ProbeClient, RefusedError
from mqtt_presence.tools.check.prober import Prober

KEEP_ALIVE_S = 2
"""The keep alive of the silent client, seconds."""
SILENCE_S = 20.0
"""Time limit for its will, seconds."""
RUNS = 5
"""The number of takeovers of each kind."""
_PROMPT_S = 1.0


def will_cut(prober: Prober) -> Finding:
    """Does the broker publish the will when the socket is cut?"""
    client_id, payload = prober.names.client_id(), prober.names.unique_payload()
    try:
        client = prober.connections.client(client_id, will=(prober.names.own_topic(client_id, WILL), payload))
    except (RefusedError, ClosedError) as error:
        return _refused(prober, "will-cut", error)
    client.cut()
    began = time.monotonic()
    received = prober.wait_for_observer(payload)
    return judge_will_cut(None if received is None else received.at - began)


def _refused(prober: Prober, name: str, error: RefusedError | ClosedError) -> Finding:
    """Make the finding of a CONNECT that was refused because of its will.

    Raises:
        BrokerError: the broker refuses it without a will too.

    """
    prober.connections.client().disconnect()
    how = f"reason {error.code:#x}" if isinstance(error, RefusedError) else "it closes the connection"
    return failed(
        name,
        f"a client with a will on its own topic is refused at CONNECT ({how}), without one it is accepted",
        "clients with a will, which every client should have, cannot connect",
    )


def judge_will_cut(after_s: float | None) -> Finding:
    """Judge the delay of the will, seconds; None if it was not published."""
    name = "will-cut"
    if after_s is None:
        return failed(name, "no will after the socket was cut", "lost clients stay online")
    text = f"the will was published {max(0, round(after_s * 1000))} ms after the socket was cut"
    if after_s > _PROMPT_S:
        return warned(name, text, "lost clients appear online for that long")
    return passed(name, text)


def will_disconnect(prober: Prober) -> Finding:
    """Does the broker discard the will after DISCONNECT?"""
    name = "will-disconnect"
    client_id, payload = prober.names.client_id(), prober.names.unique_payload()
    prober.connections.client(client_id, will=(prober.names.own_topic(client_id, WILL), payload)).disconnect()
    prober.loop.until(lambda: prober.observer.inbox.with_payload(payload), prober.quiet_s)
    if prober.observer.inbox.with_payload(payload):
        return failed(name, "a will after DISCONNECT", "clients that disconnect are recorded as lost")
    return passed(name, "no will after DISCONNECT")


def bridge_will(prober: Prober) -> Finding:
    """Does the broker publish the bridge's own will?"""
    name = "bridge-will"
    payload = prober.names.unique_payload()
    listener = prober.connections.client()
    prober.subscribe(listener, prober.names.bridge_topic)
    try:
        prober.connections.bridge(will=(prober.names.bridge_topic, payload)).cut()
    except (RefusedError, ClosedError) as error:
        return failed(name, f"refused: {error}", "the bridge cannot connect")
    is_published = prober.loop.until(lambda: listener.inbox.with_payload(payload))
    listener.disconnect()
    if not is_published:
        return failed(name, "no will of the bridge", "clients do not notice the death of the bridge")
    return passed(name, "the will of the bridge is published")


def will_silence(prober: Prober) -> Finding:
    """Does the broker publish the will when the client falls silent?"""
    if prober.silent_client is None:
        try:
            prober.begin_silence(KEEP_ALIVE_S)
        except (RefusedError, ClosedError) as error:
            return _refused(prober, "will-silence", error)
    assert prober.silent_client is not None
    client, will, began = prober.silent_client
    keep_alive_s = int(client.connack.properties.get("ServerKeepAlive", KEEP_ALIVE_S))
    received = prober.wait_for_observer(will, max(0.0, began + SILENCE_S - time.monotonic()))
    return judge_silence(None if received is None else received.at - began, keep_alive_s)


def judge_silence(after_s: float | None, keep_alive_s: int) -> Finding:
    """Judge the seconds from the last sign of life to the will; None if `SILENCE_S` was not enough."""
    name = "will-silence"
    if after_s is None:
        if keep_alive_s * 1.5 > SILENCE_S:
            return note(name, f"inconclusive: the broker sets a keep alive of {keep_alive_s} s")
        return failed(
            name,
            f"no will within {SILENCE_S:g} s of silence, with a keep alive of {keep_alive_s} s",
            "clients that lose the network stay online until expire_after or the login's timeout",
        )
    text = f"the will was published after {after_s:.1f} s of silence, with a keep alive of {keep_alive_s} s"
    if after_s > keep_alive_s * 1.5 + 6:  # a broker may check every five seconds only
        return warned(name, text, "clients that lose the network appear online for longer than expected")
    return passed(name, text)


class Pair(NamedTuple):
    """The sessions of a takeover, old and new."""

    old_is_clean: bool
    new_is_clean: bool

    def __str__(self) -> str:
        words = {True: "clean", False: "persistent"}
        return f"{words[self.old_is_clean]} to {words[self.new_is_clean]}"


PAIRS = tuple(Pair(old, new) for old in (True, False) for new in (True, False))


def takeover(prober: Prober) -> Finding:
    """In which order do the old connection's will and the new one's login arrive?"""
    return judge_takeover({pair: Counter(_take_over(prober, pair)) for pair in PAIRS})


def judge_takeover(seen: Mapping[Pair, Mapping[str, int]]) -> Finding:
    """Judge the orders of arrival.

    Args:
        seen: for each pair the number of takeovers with ``WN`` (the old will, then the new login), ``NW``,
            ``N`` (no will), and any other (the new login is missing).

    """
    name = "takeover"
    parts = [f"{pair}: {_words(orders)}" for pair, orders in seen.items()]
    if len(set(map(_words, seen.values()))) == 1:
        parts = [f"always: {_words(next(iter(seen.values())))}"]
    text = "; ".join(parts)
    orders = {order for counts in seen.values() for order in counts}
    if orders - {"WN", "NW", "N"}:
        return failed(
            name, text, "the bridge does not see clients that reconnect at once under the same client id"
        )
    if "NW" in orders:
        return warned(
            name,
            text,
            "a late will ends the new connection of a client without a connectionId; a connectionId in "
            "login and will prevents that",
            "give every connection a connectionId, the same in its login and its will",
        )
    if "N" in orders:
        return passed(name, f"{text} (without a will, the login ends the record of the old connection)")
    return passed(name, text)


_ORDERS = {"WN": "will, then login", "NW": "login, then will", "N": "login, no will"}


def _words(orders: Mapping[str, int]) -> str:
    total = sum(orders.values())
    if len(orders) == 1:
        return _ORDERS.get(next(iter(orders)), "the new login is missing")
    return ", ".join(f"{_ORDERS.get(o, 'no login')} {n} of {total}" for o, n in sorted(orders.items()))


def _take_over(prober: Prober, pair: Pair) -> list[str]:
    runs: list[tuple[ProbeClient, bytes, ProbeClient, bytes]] = []
    ids = [prober.names.client_id("over") for _ in range(RUNS)]
    old = [
        (
            prober.connections.client(
                i, mqtt5=False, clean=pair.old_is_clean, will=(prober.names.own_topic(i, WILL), will)
            ),
            will,
        )
        for i, will in ((i, prober.names.unique_payload()) for i in ids)
    ]
    for client_id, (client, will) in zip(ids, old, strict=True):
        login = prober.names.unique_payload()
        first = prober.names.own_topic(client_id, LOGIN), login
        new = prober.connections.client(client_id, mqtt5=False, clean=pair.new_is_clean, first=first)
        runs.append((client, will, new, login))
    prober.loop.until(lambda: all(prober.observer.inbox.with_payload(login) for *_, login in runs))
    prober.loop.until(
        lambda: all(prober.observer.inbox.with_payload(will) for _, will, *_ in runs), 2 * prober.quiet_s
    )
    orders = []
    for client, will, new, login in runs:
        arrived = [m.payload for m in prober.observer.inbox.messages if m.payload in (will, login)]
        orders.append("".join("W" if payload == will else "N" for payload in dict.fromkeys(arrived)))
        client.disconnect()
        new.disconnect()
    return orders
