"""All probes in their order, and the run of those that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.tools.check import (
    attack_probes,
    broker_facts,
    connection_probes,
    delivery_probes,
    will_probes,
)
from mqtt_presence.tools.check.findings import Broker, Finding, Verdict, note, warned
from mqtt_presence.tools.check.probe_client import ClosedError, RefusedError, UnreachableError
from mqtt_presence.tools.check.prober import Prober
from mqtt_presence.tools.check.remedies import remedy_for

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
    run: Callable[[Prober], Finding]

    @property
    def question(self) -> str:
        """What it answers."""
        return (self.run.__doc__ or "").strip()


PROBES = tuple(
    Probe(name, run)
    for name, run in {
        "mqtt-3.1.1": connection_probes.mqtt_311,
        "mqtt-5": connection_probes.mqtt_5,
        "websocket": connection_probes.websocket,
        "tls": connection_probes.tls,
        "local-ports": connection_probes.local_ports,
        "passwords": attack_probes.passwords,
        OWN_TOPICS: delivery_probes.own_topics,
        "names": delivery_probes.names,
        "bridge-rights": delivery_probes.bridge_rights,
        "client-rights": delivery_probes.client_rights,
        "retained": delivery_probes.retained,
        "queue": delivery_probes.queue,
        "redelivery": delivery_probes.redelivery,
        "window": delivery_probes.window,
        "shared": delivery_probes.shared,
        "persistence": broker_facts.persistence,
        "drops": broker_facts.drops,
        "addresses": broker_facts.addresses,
        "will-cut": will_probes.will_cut,
        "will-disconnect": will_probes.will_disconnect,
        "bridge-will": will_probes.bridge_will,
        "takeover": will_probes.takeover,
        "other-user": attack_probes.other_user,
        "other-client": attack_probes.other_client,
        "other-will": attack_probes.other_will,
        "slash-client-id": attack_probes.slash_client_id,
        "wildcard-client-id": attack_probes.wildcard_client_id,
        "slash-user": attack_probes.slash_user,
        "write-status": attack_probes.write_status,
        "write-bridge": attack_probes.write_bridge,
        "write-events": attack_probes.write_events,
        "write-replies": attack_probes.write_replies,
        "read-presence": attack_probes.read_presence,
        "read-events": attack_probes.read_events,
        "read-replies": attack_probes.read_replies,
        "client-id-theft": attack_probes.client_id_theft,
        SILENCE: will_probes.will_silence,
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
    lab: Prober,
    probes: Sequence[Probe],
    *,
    kind: str | None = None,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Iterator[Finding]:
    """Try the probes, one by one, and yield what was found.

    Args:
        lab: open.
        probes: in the order of `PROBES`.
        kind: of the broker; None: it is recognised.
        on_begin: called with the name of each probe before it runs.

    Raises:
        BrokerError: the broker has gone away.

    """
    on_begin(BROKER)
    lab.broker = Broker(kind, "", "as you say") if kind else broker_facts.recognise(broker_facts.look(lab))
    yield note(BROKER, _describe(lab.broker))
    if any(probe.name == SILENCE for probe in probes):
        with suppress(RefusedError, ClosedError):  # of its will, maybe: the probe looks into that
            lab.begin_silence(will_probes.KEEP_ALIVE_S)
    for probe in probes:
        on_begin(probe.name)
        if lab.is_deaf and probe.name not in _NEEDS_NO_EAR:
            finding = note(probe.name, f"not tried: see {OWN_TOPICS}")
        else:
            finding = _try(lab, probe)
        yield _with_remedy(finding, lab.broker.kind)


def _try(lab: Prober, probe: Probe) -> Finding:
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
