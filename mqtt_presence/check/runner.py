"""All probes in their order, and the run of those that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from mqtt_presence.check import attacks, connecting, delivery, facts, wills
from mqtt_presence.check.findings import Broker, Finding, Verdict, note, warned
from mqtt_presence.check.lab import Lab
from mqtt_presence.check.peer import ClosedError, RefusedError, UnreachableError
from mqtt_presence.check.remedies import remedy_for
from mqtt_presence.errors import BrokerError, ConfigError

BROKER = "broker"
OWN_TOPICS = "own-topics"
SILENCE = "will-silence"


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to try.

    Args:
        name: its name.
        run: tries it.

    """

    name: str
    run: Callable[[Lab], Finding]

    @property
    def question(self) -> str:
        """What it answers."""
        return (self.run.__doc__ or "").strip()


PROBES = tuple(
    Probe(name, run)
    for name, run in {
        "mqtt-3.1.1": connecting.mqtt_311,
        "mqtt-5": connecting.mqtt_5,
        "websocket": connecting.websocket,
        "tls": connecting.tls,
        "local-ports": connecting.local_ports,
        "passwords": attacks.passwords,
        OWN_TOPICS: delivery.own_topics,
        "names": delivery.names,
        "bridge-rights": delivery.bridge_rights,
        "client-rights": delivery.client_rights,
        "retained": delivery.retained,
        "queue": delivery.queue,
        "redelivery": delivery.redelivery,
        "window": delivery.window,
        "shared": delivery.shared,
        "persistence": facts.persistence,
        "drops": facts.drops,
        "addresses": facts.addresses,
        "will-cut": wills.will_cut,
        "will-disconnect": wills.will_disconnect,
        "bridge-will": wills.bridge_will,
        "takeover": wills.takeover,
        "other-user": attacks.other_user,
        "other-client": attacks.other_client,
        "other-will": attacks.other_will,
        "slash-client-id": attacks.slash_client_id,
        "wildcard-client-id": attacks.wildcard_client_id,
        "slash-user": attacks.slash_user,
        "write-status": attacks.write_status,
        "write-bridge": attacks.write_bridge,
        "write-events": attacks.write_events,
        "write-replies": attacks.write_replies,
        "read-presence": attacks.read_presence,
        "read-events": attacks.read_events,
        "read-replies": attacks.read_replies,
        "client-id-theft": attacks.client_id_theft,
        SILENCE: wills.will_silence,
    }.items()
)
"""In the order in which they are run: the one that waits longest begins first and ends last."""

NAMES = tuple(probe.name for probe in PROBES)
_NEEDS_NO_EAR = frozenset(
    {"mqtt-3.1.1", "mqtt-5", "tls", "local-ports", "passwords", OWN_TOPICS, "persistence"}
)
"""Probes that mean something even if the bridge hears nothing of what clients say."""


def choose(names: Sequence[str]) -> tuple[Probe, ...]:
    """Return the probes of these names, all if there are none.

    Raises:
        ConfigError: there is no such probe.

    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"only={name}: there is no such check; there are {', '.join(NAMES)}")
    return tuple(probe for probe in PROBES if not names or probe.name in names)


def run(
    lab: Lab,
    probes: Sequence[Probe],
    *,
    kind: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Finding]:
    """Try the probes, one by one, and yield what was found.

    Args:
        lab: open.
        probes: in the order of `PROBES`.
        kind: of the broker; None: it is recognised.
        tell: told what is being tried.

    Raises:
        BrokerError: the broker has gone away.

    """
    tell(BROKER)
    lab.broker = Broker(kind, "", "as you say") if kind else facts.recognise(facts.look(lab))
    yield note(BROKER, _describe(lab.broker))
    if any(probe.name == SILENCE for probe in probes):
        with suppress(RefusedError, ClosedError):  # of its will, maybe: the probe looks into that
            lab.begin_silence(wills.KEEP_ALIVE_S)
    for probe in probes:
        tell(probe.name)
        if lab.is_deaf and probe.name not in _NEEDS_NO_EAR:
            finding = note(probe.name, f"not tried: see {OWN_TOPICS}")
        else:
            finding = _try(lab, probe)
        yield _with_remedy(finding, lab.broker.kind)


def _try(lab: Lab, probe: Probe) -> Finding:
    try:
        finding = probe.run(lab)
    except UnreachableError as error:
        raise UnreachableError(f"{probe.name} could not be tried: {error}") from error
    except BrokerError as error:
        # Not a surprise on a strange broker: it may refuse what every other accepts.
        return Finding(
            name=probe.name,
            verdict=Verdict.WARN,
            evidence=f"could not be tried: {error}",
            consequence="it may work or not",
            remedy="try it again; if it stays so, the broker's log should say why",
        )
    if lab.may_listen and not lab.still_listens():  # then nothing that did not arrive proves anything
        lab.observe()
        return warned(
            probe.name,
            "could not be told: the broker has ended the bridge's connection meanwhile",
            "if that was not the broker's restart, it happens to the bridge too",
        )
    return finding


def _with_remedy(finding: Finding, kind: str) -> Finding:
    wants = finding.verdict in (Verdict.WARN, Verdict.FAIL) or bool(finding.consequence)
    if finding.remedy or not wants or finding.verdict is Verdict.PASS:
        return finding
    return replace(finding, remedy=remedy_for(kind, finding.name))


def _describe(broker: Broker) -> str:
    if broker.kind == "other":
        return "not recognised: what to do is said in general (--kind names it)"
    version = f" {broker.version}" if broker.version else ""
    return f"{broker.kind}{version} ({broker.how})"
