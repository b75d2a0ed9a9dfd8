"""The judgements and remedies of `mqtt-presence check`; tests/integration/test_check.py runs the probes."""

import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from mqtt_presence.cli.check import _Table
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.tools.check import (
    attack_probes,
    connection_probes,
    delivery_probes,
    known_brokers,
    queue_probes,
    runner,
    share_probes,
    will_probes,
)
from mqtt_presence.tools.check.broker_facts import DROPPED_TOPIC, UPTIME_TOPIC, judge_drops
from mqtt_presence.tools.check.findings import Verdict, any_failed, failed, note, passed, warned
from mqtt_presence.tools.check.known_brokers import generic_remedies, kinds, known_broker, remedy_for
from mqtt_presence.tools.check.recognition import Hints, recognise

ROOT = Path(__file__).parents[2]
PASS, NOTE, WARN, FAIL = Verdict.PASS, Verdict.NOTE, Verdict.WARN, Verdict.FAIL


def test_only_a_failure_fails() -> None:
    """Warnings and notes do not fail a script."""
    assert not any_failed([passed("a", ""), note("b", ""), warned("c", "", "")])
    assert any_failed([passed("a", ""), failed("b", "", "")])


def test_recent_drops_do_not_change_the_verdict() -> None:
    """Mosquitto retains the number of drops for a minute only, so the uptime decides."""
    assert judge_drops({UPTIME_TOPIC}) == judge_drops({UPTIME_TOPIC, DROPPED_TOPIC})
    assert judge_drops(set()) == judge_drops({DROPPED_TOPIC})
    assert (judge_drops({UPTIME_TOPIC}).verdict, judge_drops(set()).verdict) == (PASS, NOTE)


def test_report_in_a_file_has_no_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a terminal, lines are as long as their text."""
    report = _Table()
    for finding in (
        passed("a", "short"),
        failed("b", "long " * 40 + "end", "this happens", "do that " * 30 + "now"),
    ):
        report.show(finding)
    report.end()
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert "  so: this happens" in lines
    assert "  do: " + "do that " * 30 + "now" in lines


# The queue.


def queue(**seen: object) -> tuple[Verdict, str]:
    finding = queue_probes.judge_queue(
        5000, **{"early": 5000, "arrived": 5000, "lost": 0, "present": True, "in_order": True} | seen
    )
    return finding.verdict, finding.evidence


def test_queue_that_keeps_everything_passes() -> None:
    """All messages published during the absence have arrived."""
    assert queue()[0] is PASS
    assert "when the bridge had them" not in queue()[1]


def test_queue_that_acknowledges_late_passes() -> None:
    """The embedded broker acknowledges a message only after the bridge."""
    verdict, evidence = queue(early=0)
    assert verdict is PASS
    assert "when the bridge had them" in evidence


def test_queue_that_drops_fails_with_the_numbers() -> None:
    """Mosquitto's default keeps 1,000 and acknowledges the rest."""
    verdict, evidence = queue(arrived=1000, lost=4000)
    assert verdict is FAIL
    assert "1000 of 5000" in evidence
    assert "4000 were acknowledged and dropped" in evidence


def test_queue_without_a_session_fails() -> None:
    """No message waits, and the evidence names the broker's session present flag."""
    assert queue(arrived=0, present=False, lost=5000) == (
        FAIL, "0 of 5000 messages came after an absence (no session was kept); 5000 had been acknowledged",
    )  # fmt: skip
    assert "the session was present" in queue(arrived=0, lost=5000)[1]


def test_queue_out_of_order_or_without_session_present_warns() -> None:
    """All messages arrive, but with a fault."""
    assert queue(in_order=False)[0] is WARN
    assert queue(present=False)[0] is WARN


@pytest.mark.parametrize(
    ("arrived", "right"),
    [
        ((b"1", b"2", b"3"), True),
        ((b"1", b"1", b"3"), True),
        ((b"1", b"2", b"1"), True),
        ((b"2", b"1"), False),
    ],
)
def test_order_is_that_of_first_arrivals(arrived: tuple[bytes, ...], right: bool) -> None:
    """Duplicates and gaps are not a wrong order."""
    assert queue_probes._in_order(arrived, (b"1", b"2", b"3")) is right


# Other deliveries.


def test_window_is_judged_by_its_size() -> None:
    """Mosquitto's default for MQTT 3.1.1 is 20."""
    assert queue_probes.judge_window(20, mqtt5=False).verdict is WARN
    assert "2000 a second" in queue_probes.judge_window(20, mqtt5=False).consequence
    assert queue_probes.judge_window(100, mqtt5=True).verdict is PASS
    assert "at least 500" in queue_probes.judge_window(500, mqtt5=True).evidence


def own_topics(acknowledged: bool = True, **qos: list[int]) -> tuple[Verdict, str]:
    came = {verb: [1] for verb in ("activity", "login", "logout", "time", "will")} | qos
    finding = delivery_probes.judge_own_topics(came, acknowledged=acknowledged)
    return finding.verdict, finding.evidence


def test_own_topics_must_all_arrive_at_qos_1() -> None:
    """The finding names missing verbs; QoS 0 and missing acknowledgements are faults."""
    assert own_topics()[0] is PASS
    assert own_topics(logout=[], time=[]) == (FAIL, "logout, time does not arrive")
    assert own_topics(activity=[], login=[], logout=[], time=[], will=[]) == (FAIL, "none of them arrives")
    assert own_topics(login=[0])[0] is FAIL
    assert own_topics(acknowledged=False)[0] is FAIL


@pytest.mark.parametrize(
    ("exact", "plus", "deep", "remains", "verdict"),
    [
        (True, True, True, False, PASS),
        (True, True, False, False, WARN),
        (True, False, False, False, FAIL),  # RabbitMQ
        (False, False, False, False, FAIL),
        (True, True, True, True, FAIL),
    ],
)
def test_retained_must_be_replayed_for_all_users(
    exact: bool, plus: bool, deep: bool, remains: bool, verdict: Verdict
) -> None:
    """`status/+` must deliver all users; `status/#` is an optional alternative."""
    got = {"status/x": exact, "status/+": plus, "status/#": deep}
    assert (
        delivery_probes.judge_retained(got, exact="status/x", deep="status/#", remains=remains).verdict
        is verdict
    )


def test_redelivery_may_not_take_long() -> None:
    """NATS redelivers after its `ack_wait`, by default 30 s, and not at the reconnect."""
    assert queue_probes.judge_redelivery(0.1).verdict is PASS
    assert queue_probes.judge_redelivery(29.6).verdict is WARN
    assert queue_probes.judge_redelivery(None).verdict is FAIL


def test_repetition_that_cannot_be_recognised_warns() -> None:
    """The bridge recognises a repetition by its packet id and the DUP flag; else only a connectionId helps."""
    found = queue_probes.judge_redelivery(0.1, ["under another packet id", "without the DUP flag"])
    assert found.verdict is WARN
    assert found.evidence.endswith("again, under another packet id and without the DUP flag")
    assert "counts twice after a crash" in found.consequence
    assert "connectionId" in found.remedy
    late = queue_probes.judge_redelivery(29.6, ["under another packet id"])
    assert "counts twice" in late.consequence
    assert late.remedy == ""  # that of the broker


GROUP = share_probes.Sharing(granted=True, taken=(10, 10), arrived=20, again=10, waited=20)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"granted": False}, "are refused"),
        ({"taken": (0, 0), "arrived": 0, "again": 0}, "deliver nothing"),
        ({"arrived": 19}, "19 of 20 messages arrive"),
        ({"again": 0}, "0 of 10 unacknowledged messages come again"),
        ({"waited": 7}, "7 of 20 wait while both members are away"),
        ({"twice": 3}, "3 come twice"),
    ],
)
def test_group_that_loses_or_doubles_messages_fails_only_where_it_is_needed(
    change: dict[str, object], words: str
) -> None:
    """One bridge needs no group, and seat_inputs replaces it; `seats` alone relies on it."""
    seen = msgspec.structs.replace(GROUP, **change)
    one = share_probes.judge_shared(seen, seats=1, has_seat_inputs=False)
    assert (one.verdict, words in one.evidence) == (NOTE, True), one
    assert "a bridge with a standby can" in one.consequence
    assert share_probes.judge_shared(seen, seats=4, has_seat_inputs=True).verdict is NOTE
    four = share_probes.judge_shared(seen, seats=4, has_seat_inputs=False)
    assert four.verdict is FAIL
    assert four.evidence.endswith("; seats = 4 needs them")


def test_group_that_gives_each_message_to_one_member_passes() -> None:
    """Also where one member takes all."""
    for taken in ((10, 10), (0, 20), (20, 0)):
        seen = msgspec.structs.replace(GROUP, taken=taken, again=taken[0])
        found = share_probes.judge_shared(seen, seats=4, has_seat_inputs=False)
        assert found.verdict is PASS
        assert f"({taken[0]} and {taken[1]})" in found.evidence


# Wills.


@pytest.mark.parametrize(("after_s", "verdict"), [(None, FAIL), (0.01, PASS), (2.5, WARN)])
def test_will_after_a_cut_must_be_prompt(after_s: float | None, verdict: Verdict) -> None:
    """The broker notices the end of a socket at once."""
    assert will_probes.judge_will_cut(after_s).verdict is verdict


@pytest.mark.parametrize(
    ("after_s", "keep_alive_s", "verdict"),
    [(3.0, 2, PASS), (7.5, 2, PASS), (12.0, 2, WARN), (None, 2, FAIL), (None, 60, NOTE), (15.0, 10, PASS)],
)
def test_will_after_a_silence_may_take_a_while(
    after_s: float | None, keep_alive_s: int, verdict: Verdict
) -> None:
    """The limit is 1.5 times the keep alive, plus the five seconds of some brokers' checks."""
    assert will_probes.judge_silence(after_s, keep_alive_s).verdict is verdict


def takeover(*orders: str) -> tuple[Verdict, str]:
    seen = {pair: Counter([order] * 5) for pair, order in zip(will_probes.PAIRS, orders, strict=True)}
    finding = will_probes.judge_takeover(seen)
    return finding.verdict, finding.evidence


def test_takeover_is_judged_for_each_pair() -> None:
    """A late will is a limit; a missing one is not, since the login ends the old connection."""
    assert takeover("WN", "WN", "WN", "WN") == (PASS, "always: will, then login")
    verdict, evidence = takeover("WN", "WN", "WN", "N")
    assert verdict is PASS
    assert "persistent to persistent: login, no will" in evidence
    assert takeover("WN", "NW", "WN", "N")[0] is WARN
    assert takeover("WN", "W", "WN", "WN")[0] is FAIL


def test_takeover_counts_varying_orders() -> None:
    """Ejabberd sends the old will after the new login in a third of takeovers."""
    seen = {pair: Counter({"WN": 5}) for pair in will_probes.PAIRS} | {
        will_probes.PAIRS[0]: Counter({"WN": 3, "NW": 2})
    }
    finding = will_probes.judge_takeover(seen)
    assert finding.verdict is WARN
    assert "clean to clean: login, then will 2 of 5, will, then login 3 of 5" in finding.evidence


# The connection.

_DAY = 86_400
_END = 1_800_000_000
_CERTIFICATE = {
    "notAfter": "Jan 15 08:00:00 2027 GMT",
    "subjectAltName": (("DNS", "broker.example"), ("IP Address", "10.0.0.1")),
}


def test_certificate_that_ends_soon_warns() -> None:
    """Thirty days are enough to renew a certificate."""
    judge = connection_probes.judge_certificate
    later = judge("TLSv1.3", "AES", _CERTIFICATE, _END - 40 * _DAY)
    assert later.verdict is PASS
    assert "broker.example, 10.0.0.1" in later.evidence
    assert "valid for 40 more days" in later.evidence
    assert judge("TLSv1.3", "AES", _CERTIFICATE, _END - 29 * _DAY).verdict is WARN
    assert judge("TLSv1.3", "AES", {}, _END).verdict is PASS


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("mqtt://127.0.0.1", True), ("mqtt://127.8.8.8", True), ("mqtt://[::1]", True), ("mqtt://LOCALHOST", True),
        ("mqtt://10.0.0.1", False), ("mqtt://broker.example", False), ("mqtt://localhost.example", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine(url: str, is_local: bool) -> None:
    """Only connections within the machine need no encryption."""
    assert connection_probes.is_this_machine(BrokerUrl.parse(url)) is is_local


def test_open_embedded_broker_is_only_a_warning() -> None:
    """The embedded broker is open on loopback, or by an explicit setting; other open brokers fail."""
    assert attack_probes.judge_passwords([], may_be_open=False).verdict is PASS
    assert attack_probes.judge_passwords(["a wrong password"], may_be_open=False).verdict is FAIL
    assert attack_probes.judge_passwords(["a wrong password"], may_be_open=True).verdict is WARN


# Recognising.


VERSION_TOPIC = "$SYS/broker/version"
EMQX_TOPIC = "$SYS/brokers/+/version"


def hints(
    retained: dict[str, str] | None = None, *refuses: known_brokers.Refusal, **connack: object
) -> Hints:
    return Hints(retained or {}, connack, frozenset(refuses))


@pytest.mark.parametrize(
    ("shown", "kind", "version"),
    [
        (hints({VERSION_TOPIC: "mosquitto version 2.0.11"}), "mosquitto", "2.0.11"),
        (hints({VERSION_TOPIC: "mosquitto"}), "mosquitto", ""),
        (hints({DROPPED_TOPIC: "0"}), "mosquitto", ""),
        (hints({EMQX_TOPIC: "5.8.6", DROPPED_TOPIC: "0"}), "emqx", "5.8.6"),
        (hints(AssignedClientIdentifier="auto-6E92AE9A-FF86-8A44-5F8B-2C3D0AA2D1C1"), "mosquitto", ""),
        (hints({EMQX_TOPIC: "5.8.6"}), "emqx", "5.8.6"),
        (hints(AssignedClientIdentifier="hmq_k3TzQ_12_9e107d9d372bb6826bd81d3542a419d6"), "hivemq", ""),
        (hints({}, "mqtt-5", "qos-2", "slash"), "embedded", ""),
        (hints({}, "mqtt-5", "slash"), "other", ""),  # aedes
        (hints({}, "mqtt-5", "qos-2", "blank"), "nats", ""),
        (hints({}, "mqtt-5", "slash", "blank"), "other", ""),
        (hints({}, "mqtt-5", "qos-2"), "other", ""),
        (hints(MaximumQoS=1, SharedSubscriptionAvailable=0), "rabbitmq", ""),
        (hints(TopicAliasMaximum=100, SharedSubscriptionAvailable=0), "ejabberd", ""),
        (hints(MaximumQoS=1), "other", ""),
        (hints({VERSION_TOPIC: "another broker"}), "other", ""),
        (hints(), "other", ""),
    ],
)
def test_brokers_are_recognised(shown: Hints, kind: str, version: str) -> None:
    """By the broker's own reports, else by behaviour that no other broker has."""
    found = recognise(shown)
    assert (found.kind, found.version) == (kind, version)
    assert found.kind in kinds()


# The probes as a whole.


def test_every_probe_has_a_question_and_a_remedy() -> None:
    """A probe that can find a fault has advice for every broker."""
    for probe in runner.PROBES:
        assert probe.question.endswith("?"), probe.name
        assert generic_remedies().get(probe.name), probe.name


@pytest.mark.parametrize("kind", kinds())
def test_data_of_a_broker_names_probes_once(kind: str) -> None:
    """A check.toml has no advice for an unknown probe, and no second advice for the same."""
    broker = known_broker(kind)
    named = [name for remedy in broker.remedies for name in remedy.probes]
    assert len(named) == len(set(named))
    assert {*named, *(finding.probe for finding in broker.findings)} <= set(runner.NAMES)
    assert bool(broker.remedies) == (kind != "other")


def test_generic_remedies_are_for_known_probes() -> None:
    """There is no advice for an unknown probe."""
    assert set(generic_remedies()) <= set(runner.NAMES)


def test_lines_that_remedies_quote_are_in_the_shipped_files() -> None:
    """Each quoted line stands in the file that the remedy names."""
    quoted = [
        (kind, remedy.file, remedy.line, len(remedy.probes))
        for kind in kinds()
        for remedy in known_broker(kind).remedies
        if remedy.file or remedy.line
    ]
    assert {kind for kind, *_ in quoted} == set(kinds()) - {"other"}
    assert sum(count for *_, count in quoted) > 150
    for kind, file, line, _ in quoted:
        text = (ROOT / "broker_config" / kind / file).read_text("utf-8")
        assert line in {without_comment(shipped) for shipped in text.splitlines()}, (kind, file, line)


def test_embedded_broker_answers_some_probes_in_advance() -> None:
    """Its data answers the probes that a check from outside cannot decide."""
    found = known_brokers.known_finding("embedded", "persistence")
    assert found is not None
    assert (found.verdict, found.name) == (WARN, "persistence")
    assert known_brokers.known_finding("embedded", "queue") is None
    assert known_brokers.known_finding("mosquitto", "persistence") is None


def without_comment(line: str) -> str:
    """Return a line of a file as remedies quote it: without indentation and trailing comment."""
    return re.split(r" +(?:#|//) ", line, maxsplit=1)[0].strip()


def test_remedy_names_the_line_of_the_broker_at_hand() -> None:
    """An unknown broker gets the general remedy."""
    assert remedy_for("mosquitto", "window").endswith(
        "`max_inflight_messages 20000` (broker_config/mosquitto/mosquitto.conf)"
    )
    assert remedy_for("nats", "redelivery").endswith("""`ack_wait: "10s"` (broker_config/nats/nats.conf)""")
    assert remedy_for("hivemq", "window") == f"{generic_remedies()['window']}; see broker_config/hivemq/"
    assert remedy_for("other", "window") == generic_remedies()["window"]
    assert remedy_for("embedded", "window") == generic_remedies()["window"]


def test_choice_keeps_the_order_and_refuses_unknown_names() -> None:
    """The order matters: the longest wait comes last."""
    assert [p.name for p in runner.choose(["window", "tls"])] == ["tls", "window"]
    assert runner.choose([], is_cluster=True) == runner.PROBES
    with pytest.raises(ConfigError, match=r"only=nothing: there is no such check; there are mqtt-3\.1\.1,"):
        runner.choose(["nothing"])
    assert runner.NAMES[-1] == "will-silence"


def test_every_probe_is_documented_with_its_question() -> None:
    """docs/check.md has a row for each probe, with the question from the code."""
    documented = (ROOT / "docs/check.md").read_text("utf-8")
    for probe in runner.PROBES:
        assert f"| `{probe.name}` | {probe.question} |" in documented
