"""The probe of the broker's reports of its clients, which the setting `implicit` counts by."""

from mqtt_presence.adapters.port import Connected, Ended, Report, Source
from mqtt_presence.adapters.registry import SOURCES
from mqtt_presence.tools.check.findings import Finding, note, passed, warned
from mqtt_presence.tools.check.probe_client import ClosedError, Received
from mqtt_presence.tools.check.prober import Prober

_NAME = "reports"
_BROKERS = ("mosquitto", "emqx", "nanomq")
_NO_LIST = {
    "mosquitto": "it drops reports that wait for 20 seconds, and the bridge reads no list of its clients",
    "emqx": "it keeps no reports for an absent bridge, which asks for a list only with `implicit_list`",
    "nanomq": "it keeps no reports for an absent bridge, and has no list of its clients",
}


def reports(prober: Prober) -> Finding:
    """Does the broker report its clients, so that `implicit` can count them?"""
    reader = prober.connections.bridge()
    sources = {name: source for name in _BROKERS if (source := SOURCES[name]()) is not None}
    try:
        for source in sources.values():
            for topic_filter in source.filters:
                prober.subscribe(reader, topic_filter)
        leaving, cut = prober.connections.client(), prober.connections.client()
        leaving.disconnect()
        cut.cut()
        ids = {leaving.client_id, cut.client_id}
        prober.loop.until(
            lambda: any(
                judged[1] >= ids for judged in judge_all(sources, reader.inbox.messages, ids).values()
            ),
            prober.long_wait_s,
        )
        found = judge_all(sources, reader.inbox.messages, ids)
        reader.disconnect()
    except ClosedError as error:
        return note(_NAME, f"the broker refuses to report: {error}", "`implicit` cannot count clients here")
    return judge(found, ids)


def judge_all(
    sources: dict[str, Source], messages: list[Received], ids: set[str]
) -> dict[str, tuple[set[str], set[str], set[str]]]:
    """Return, for each kind of broker, the clients reported as connected, as ended, and with a user name."""
    found: dict[str, tuple[set[str], set[str], set[str]]] = {}
    for name, source in sources.items():
        connected: set[str] = set()
        ended: set[str] = set()
        named: set[str] = set()
        for message in messages:
            report: Report | None = source.read(message.topic, message.payload)
            if isinstance(report, Connected) and report.client_id in ids:
                connected.add(report.client_id)
                if report.user_id is not None:
                    named.add(report.client_id)
            elif isinstance(report, Ended) and report.client_id in ids:
                ended.add(report.client_id)
        found[name] = connected, ended, named
    return found


def judge(found: dict[str, tuple[set[str], set[str], set[str]]], ids: set[str]) -> Finding:
    """Judge the reports about two clients, one that disconnected and one that was cut."""
    name = max(found, key=lambda kind: len(found[kind][0]) + len(found[kind][1]))
    connected, ended, named = found[name]
    if not connected:
        return note(_NAME, "no client that connects is reported", "`implicit` cannot count clients here")
    if not ended >= ids:
        missing = "no end" if not ended else "not each end"
        return warned(
            _NAME,
            f"connects are reported as by {name}, and {missing}",
            "with `implicit`, clients that are gone would stay online",
        )
    users = "with user names" if named >= ids else "without user names: implicit=client_id only"
    return passed(
        _NAME,
        f"connects and ends are reported as by {name}, {users}; {_NO_LIST[name]}: after a longer absence of "
        "the bridge, connections are unconfirmed",
    )
