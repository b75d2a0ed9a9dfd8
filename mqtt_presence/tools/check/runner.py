"""The list of all probes in their order, and the run of the chosen ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.tools.check import (
    attack_probes,
    broker_facts,
    cluster_nodes,
    cluster_probes,
    cluster_session_probes,
    connection_probes,
    database_probe,
    delivery_probes,
    queue_probes,
    recognition,
    report_probes,
    share_probes,
    will_probes,
)
from mqtt_presence.tools.check.findings import Broker, Finding, Verdict, note, warned
from mqtt_presence.tools.check.known_brokers import known_finding, remedy_for
from mqtt_presence.tools.check.probe_client import ClosedError, RefusedError, UnreachableError
from mqtt_presence.tools.check.prober import Prober
from mqtt_presence.tools.check.profile_probe import probe_profile
from mqtt_presence.tools.check.recognition import recognise

BROKER = "broker"
OWN_TOPICS = "own-topics"
SILENCE = "will-silence"


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to the broker.

    Args:
        name: as in the report.
        run: asks the broker; its docstring is the question.

    """

    name: str
    run: Callable[[Prober], Finding]

    @property
    def is_of_cluster(self) -> bool:
        """Whether the probe compares the nodes of a cluster."""
        return self.name.startswith("cluster-")

    @property
    def question(self) -> str:
        """The question that the probe answers."""
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
        "queue": queue_probes.queue,
        "redelivery": queue_probes.redelivery,
        "window": queue_probes.window,
        "shared": share_probes.shared,
        "persistence": broker_facts.persistence,
        "drops": broker_facts.drops,
        "addresses": broker_facts.addresses,
        "reports": report_probes.reports,
        "database": database_probe.database,
        "will-cut": will_probes.will_cut,
        "will-disconnect": will_probes.will_disconnect,
        "bridge-will": will_probes.bridge_will,
        "takeover": will_probes.takeover,
        "nodes": cluster_nodes.nodes,
        "cluster-live": cluster_probes.live,
        "cluster-retained": cluster_probes.retained,
        "cluster-session": cluster_session_probes.session,
        "cluster-takeover": cluster_session_probes.takeover,
        "cluster-will": cluster_probes.will,
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
"""In the order of their runs: the silence begins before the first probe, and its will comes last."""

NAMES = tuple(probe.name for probe in PROBES)
_NEEDS_NO_INPUTS = frozenset(
    {
        "mqtt-3.1.1",
        "mqtt-5",
        "tls",
        "local-ports",
        "passwords",
        OWN_TOPICS,
        "persistence",
        "database",
        "nodes",
    }
)
"""Probes that work even if clients' messages do not reach the bridge."""


def choose(names: Sequence[str], *, is_cluster: bool = False) -> tuple[Probe, ...]:
    """Return the probes with these names, or without a name all that concern the broker.

    Args:
        names: of probes.
        is_cluster: whether the broker has several nodes.

    Raises:
        ConfigError: a name is unknown.

    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"only={name}: there is no such check; there are {', '.join(NAMES)}")
    if names:
        return tuple(probe for probe in PROBES if probe.name in names)
    return tuple(probe for probe in PROBES if is_cluster or not probe.is_of_cluster)


def run(
    prober: Prober,
    probes: Sequence[Probe],
    *,
    kind: str | None = None,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Iterator[Finding]:
    """Run the probes one by one, and yield the findings.

    Args:
        prober: entered.
        probes: in the order of `PROBES`.
        kind: of the broker; None to recognise it.
        on_begin: called with the name of each probe before it runs.

    Raises:
        BrokerError: the broker is no longer reachable.

    """
    on_begin(BROKER)
    prober.broker = Broker(kind, "", "by --kind") if kind else recognise(recognition.collect_hints(prober))
    yield note(BROKER, _describe(prober.broker))
    if any(probe.name == SILENCE for probe in probes):
        with suppress(RefusedError, ClosedError):  # the probe reports a refusal of its will
            prober.begin_silence(will_probes.KEEP_ALIVE_S)
    of_profiles = [
        Probe(f"profile-{profile.name}", partial(probe_profile, profile=profile))
        for profile in prober.config.profiles
    ]
    for probe in (*probes, *of_profiles):
        on_begin(probe.name)
        needs_inputs = probe.name not in _NEEDS_NO_INPUTS and probe not in of_profiles
        if needs_inputs and not prober.receives_inputs:
            finding = note(probe.name, f"not tried: see {OWN_TOPICS}")
        else:
            finding = _try(prober, probe)
        yield _with_remedy(finding, prober.broker.kind)


def _try(prober: Prober, probe: Probe) -> Finding:
    known = known_finding(prober.broker.kind, probe.name)
    if known is not None:
        return known
    try:
        finding = probe.run(prober)
    except UnreachableError as error:
        raise UnreachableError(f"{probe.name} could not be tried: {error}") from error
    except BrokerError as error:
        # A strange broker may refuse requests that every other accepts.
        return Finding(
            name=probe.name,
            verdict=Verdict.WARN,
            evidence=f"could not be tried: {error}",
            consequence="the answer is unknown",
            remedy="try it again; if it fails again, look for the reason in the broker's log",
        )
    if prober.may_read_inputs and not prober.is_observing():  # a missing message proves nothing then
        prober.observe()
        return warned(
            probe.name,
            "inconclusive: the broker has ended the bridge's connection meanwhile",
            "unless the broker was restarted, it ends the bridge's connections too",
        )
    return finding


def _with_remedy(finding: Finding, kind: str) -> Finding:
    needs_remedy = finding.verdict in (Verdict.WARN, Verdict.FAIL) or bool(finding.consequence)
    if finding.remedy or not needs_remedy or finding.verdict is Verdict.PASS:
        return finding
    return replace(finding, remedy=remedy_for(kind, finding.name))


def _describe(broker: Broker) -> str:
    if broker.kind == "other":
        return "not recognised: remedies are general (--kind names the broker)"
    version = f" {broker.version}" if broker.version else ""
    return f"{broker.kind}{version} ({broker.evidence})"
