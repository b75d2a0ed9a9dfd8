"""The probe of shared subscriptions, by which several bridges divide the messages of the clients."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from mqtt_presence.tools.check.findings import Finding, failed, note, passed
from mqtt_presence.tools.check.poll_loop import ANSWER_S
from mqtt_presence.tools.check.probe_client import ProbeClient
from mqtt_presence.tools.check.prober import Prober

COUNT = 20
"""The number of messages while the members of the group are there, and again while they are away."""
_NAME = "shared"
_BACK_S = 10.0


class Sharing(Struct, frozen=True, kw_only=True):
    """The deliveries of a group with two members, one of which acknowledged nothing and was then cut.

    Args:
        granted: whether the broker granted their subscriptions.
        taken: how many of `COUNT` messages each member received.
        arrived: how many of them at least one member received.
        again: how many of the unacknowledged ones came to either member after both were back.
        waited: how many of `COUNT` messages came that were published while both were away.
        twice: how many messages came to both members, or came again after an acknowledgement.

    """

    granted: bool
    taken: tuple[int, int] = (0, 0)
    arrived: int = 0
    again: int = 0
    waited: int = 0
    twice: int = 0


def shared(prober: Prober) -> Finding:
    """Do several bridges get each message once between them, by shared subscriptions?"""
    return judge_shared(
        _share(prober), seats=prober.config.seats, has_seat_inputs=prober.topics.has_seat_inputs
    )


def _share(prober: Prober) -> Sharing:
    group = f"$share/check-{prober.names.run}/{prober.topics.inputs}"
    ids = [prober.names.client_id("shared", bridge=True) for _ in range(2)]
    careless = prober.connections.bridge(ids[0], clean=False, acknowledge=False)
    careful = prober.connections.bridge(ids[1], clean=False)
    if not all(prober.subscribe(member, group) for member in (careless, careful)):
        _disconnect(careless, careful)
        return Sharing(granted=False)
    first = _publish(prober)
    prober.loop.until_quiet(lambda: len(_seen(first, careless, careful)), COUNT, prober.long_wait_s, ANSWER_S)
    prober.loop.rest(prober.quiet_s)  # second copies may follow, and acknowledgements must leave
    careless.cut()
    careful.disconnect()
    open_ones, done = _seen(first, careless), _seen(first, careful)
    if not (open_ones or done):
        return Sharing(granted=True)
    later = _publish(prober)
    back = [prober.connections.bridge(client_id, clean=False) for client_id in ids]
    wanted = [*open_ones, *later]
    prober.loop.until_quiet(lambda: len(_seen(wanted, *back)), len(wanted), 2 * prober.long_wait_s, _BACK_S)
    prober.loop.rest(prober.quiet_s)
    _disconnect(*back)
    return Sharing(
        granted=True,
        taken=(len(open_ones), len(done)),
        arrived=len(open_ones | done),
        again=len(_seen(open_ones, *back)),
        waited=len(_seen(later, *back)),
        twice=len(open_ones & done | _seen(done, *back) | _repeated(later, back)),
    )


def _publish(prober: Prober) -> list[bytes]:
    client = prober.connections.client()
    payloads = [prober.names.unique_payload() for _ in range(COUNT)]
    prober.wait_for_answers(
        [client.publish(prober.names.own_topic(client.client_id), payload) for payload in payloads]
    )
    client.disconnect()
    return payloads


def _seen(payloads: Iterable[bytes], *members: ProbeClient) -> set[bytes]:
    return {payload for payload in payloads if any(m.inbox.with_payload(payload) for m in members)}


def _repeated(payloads: Iterable[bytes], members: Sequence[ProbeClient]) -> set[bytes]:
    return {p for p in payloads if sum(len(member.inbox.with_payload(p)) for member in members) > 1}


def _disconnect(*clients: ProbeClient) -> None:
    for client in clients:
        client.disconnect()


def judge_shared(seen: Sharing, *, seats: int, has_seat_inputs: bool) -> Finding:
    """Judge the deliveries to a group.

    Args:
        seen: the deliveries.
        seats: the number of bridges that are to share the messages.
        has_seat_inputs: whether the broker gives each of them messages of its own, without a group.

    """
    fault = _fault(seen)
    if not fault:
        one, other = seen.taken
        return passed(
            _NAME,
            f"{COUNT} of {COUNT} messages arrive, each at one of two members ({one} and {other}); "
            f"unacknowledged ones come again, and {COUNT} of {COUNT} wait while both are away",
        )
    if has_seat_inputs:
        return note(_NAME, f"{fault}; with seat_inputs the bridges need none")
    if seats > 1:
        return failed(
            _NAME, f"{fault}; seats = {seats} needs them", "the bridges lose messages, or count them twice"
        )
    return note(
        _NAME, fault, "several bridges (seats) cannot share the messages; a bridge with a standby can"
    )


def _fault(seen: Sharing) -> str:
    """Return the fault of the deliveries in words; empty for none."""
    if not seen.granted:
        return "$share subscriptions are refused"
    if not seen.arrived:
        return "$share subscriptions are granted, and deliver nothing"
    faults = []
    if seen.arrived < COUNT:
        faults.append(f"{seen.arrived} of {COUNT} messages arrive")
    if seen.again < seen.taken[0]:
        faults.append(f"{seen.again} of {seen.taken[0]} unacknowledged messages come again")
    if seen.waited < COUNT:
        faults.append(f"{seen.waited} of {COUNT} wait while both members are away")
    if seen.twice:
        faults.append(f"{seen.twice} come twice")
    return f"of a group with two members {', '.join(faults)}" if faults else ""
