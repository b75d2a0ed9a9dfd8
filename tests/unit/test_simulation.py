"""The plan, the run and the WebSocket of a simulation, without a socket."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.mqtt.websocket_client import WebSocketClient
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.model import State
from mqtt_presence.tools.simulate import socket_loop
from mqtt_presence.tools.simulate.scenario import Action, Expected, Plan, Scenario, Step
from mqtt_presence.tools.simulate.simulated_devices import SimulatedDevice, SimulatedDevices
from mqtt_presence.tools.simulate.simulated_names import Count, SimulatedNames
from mqtt_presence.tools.simulate.simulation_run import RunProgress, Simulation

SHARE = st.floats(0, 1)
SCENARIOS = st.builds(
    Scenario,
    users=st.integers(1, 6),
    connections=st.integers(1, 3),
    rate=st.floats(0, 50),
    churn=SHARE,
    abrupt=SHARE,
    idle=SHARE,
    storm_every_s=st.none() | st.floats(0.5, 3),
    duration_s=st.floats(0, 5),
    seed=st.integers(0, 2**31),
)


def all_steps(plan: Plan) -> list[Step]:
    return [*plan.arrivals(), *plan.steps()]


@given(SCENARIOS)
def test_same_seed_has_the_same_plan(scenario: Scenario) -> None:
    """The plan depends on the scenario alone."""
    one, other = Plan(scenario), Plan(scenario)
    assert all_steps(one) == all_steps(other)
    assert one.expected() == other.expected()


@given(SCENARIOS)
def test_steps_are_possible(scenario: Scenario) -> None:
    """Only absent clients log in, only connected ones act, and times do not decrease."""
    connected: set[int] = set()
    at = 0.0
    reported: set[int] = set()
    for step in all_steps(Plan(scenario)):
        assert step.at_s >= at
        at = step.at_s
        assert (step.client in connected) == (step.action is not Action.LOGIN)
        match step.action:
            case Action.LOGIN:
                connected.add(step.client)
                reported.discard(step.client)
            case Action.LOGOUT | Action.CUT:
                connected.discard(step.client)
            case Action.HEARTBEAT:
                assert step.client in reported, "otherwise the bridge's idle check decides"
            case _:
                reported.add(step.client)


@given(SCENARIOS, st.integers(0, 200))
def test_expectation_follows_every_step(scenario: Scenario, count: int) -> None:
    """After any number of steps, the plan expects the statuses that follow from them."""
    plan = Plan(scenario)
    idle: dict[int, bool] = {}
    logged_in: set[int] = set()
    for step in itertools.islice(itertools.chain(plan.arrivals(), plan.steps()), count):
        user = step.client // scenario.connections
        logged_in.add(user)
        if step.action in (Action.LOGOUT, Action.CUT):
            del idle[step.client]
        else:
            idle[step.client] = step.action is Action.IDLE
    for user, expected in enumerate(plan.expected()):
        live = [i for client, i in idle.items() if client // scenario.connections == user]
        state = State.OFFLINE if not live else State.IDLE if all(live) else State.ONLINE
        assert expected == (Expected(state, len(live)) if user in logged_in else None)


@given(SCENARIOS)
def test_logouts_leave_all_users_offline(scenario: Scenario) -> None:
    """The plan ends with all users offline."""
    plan = Plan(scenario)
    all_steps(plan)
    assert {step.action for step in plan.logouts()} <= {Action.LOGOUT}
    assert set(plan.expected()) == {Expected(State.OFFLINE, 0)}


def test_storm_cuts_and_reconnects_all_clients() -> None:
    """Each connected client is cut, and logs in again at the same time."""
    plan = Plan(Scenario(users=5, connections=2, rate=0, storm_every_s=2, duration_s=3))
    list(plan.arrivals())
    steps = list(plan.steps())
    assert Counter(step.action for step in steps) == {Action.CUT: 10, Action.LOGIN: 10}
    assert {step.at_s for step in steps} == {2}


@pytest.mark.parametrize(
    "wrong",
    [{"users": 0}, {"connections": 0}, {"churn": 1.1}, {"abrupt": -1}, {"rate": -1}, {"storm_every_s": 0}],
)
def test_scenario_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    """The message names the value."""
    with pytest.raises(ConfigError, match=next(iter(wrong)).removesuffix("_s")):
        Scenario(**wrong)  # type: ignore[arg-type]


def test_users_have_names_and_passwords_of_their_own() -> None:
    """Clients belong to users in order; the pattern gives each password."""
    names = SimulatedNames("sim-1", 2, 3, "pw-{user}!")
    assert [names.of_client(n) for n in (0, 2, 3)] == [
        ("sim-1-0", "sim-1-0-0"),
        ("sim-1-0", "sim-1-0-2"),
        ("sim-1-1", "sim-1-1-0"),
    ]
    assert names.password_of("sim-1-1") == "pw-sim-1-1!"


class Stuck:
    """The devices, reader and loop of a simulation that makes no progress, with a clock of its own."""

    def __init__(self, left: Iterable[int], away_at: float = math.inf) -> None:
        self.now = 0.0
        self._left = iter(left)
        self._away_at = away_at
        self.names = SimulatedNames("sim", 1, 1)
        self.implicit = False
        self.count = Count()
        self.is_up, self.is_busy, self.seen = True, False, {}
        self.reported: list[RunProgress] = []

    @property
    def left(self) -> int:
        return next(self._left)

    bridge_away_since = None
    unaccepted = 0

    @property
    def away_since(self) -> float | None:
        return self._away_at if self.now > self._away_at else None

    def run_once(self, timeout_s: float) -> None:
        self.now += max(timeout_s, 0.01)

    def add(self, *_: object) -> None:
        pass

    maintain = read_all = add

    def run(self, **scenario: float) -> None:
        """Run a simulation with 3 s to settle."""
        plan = Plan(Scenario(users=1, connections=1, **scenario))  # type: ignore[arg-type]
        stuck: Any = self
        Simulation(
            plan, stuck, stuck, stuck, settle_s=3, report=self.reported.append, monotonic=lambda: self.now
        ).run()


class Paused(Stuck):
    """A simulation whose process is stopped once, for an hour."""

    def __init__(self) -> None:
        super().__init__(itertools.repeat(0))
        self.added_at: list[float] = []
        self.resumed_at = math.inf

    def add(self, *_: object) -> None:
        self.added_at.append(self.now)
        if len(self.added_at) == 1_000:
            self.now += 3_600.0
            self.resumed_at = self.now


def test_simulated_clients_spread_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers an announcement once, at a moment of its own; without `within` all answer at once."""
    now = [100.0]
    answers: list[float] = []
    monkeypatch.setattr(SimulatedDevice, "answer_announce", lambda *_: answers.append(now[0]))
    devices = SimulatedDevices(
        cast("Any", None), cast("Any", None), Topics(""), SimulatedNames("x", 50, 2), lambda: now[0]
    )
    devices.answer_announce(10.0)
    devices.answer_announce(10.0)
    for _ in range(11):
        devices.maintain()
        now[0] += 1
    assert len(answers) == 100
    assert len(set(answers)) > 5
    devices.answer_announce(0.0)
    devices.maintain()
    assert len(answers) == 200


def test_steps_after_a_pause_of_the_process_keep_their_rate() -> None:
    """The plan continues at its rate: the broker does not get the steps of an hour at once."""
    paused = Paused()
    plan, stuck = Plan(Scenario(users=1, connections=1, rate=100, duration_s=100)), cast(Any, paused)
    simulation = Simulation(
        plan, stuck, stuck, stuck, settle_s=3, report=lambda _: None, monotonic=lambda: paused.now
    )
    simulation._perform(plan.steps())
    after = [at - paused.resumed_at for at in paused.added_at if at >= paused.resumed_at]
    assert len(after) > 5_000, "the plan is performed to its end"
    assert sum(at < 1.0 for at in after) < 1_000


def test_repeated_work_is_no_progress() -> None:
    """With a flapping broker, the time limit runs from the last new minimum of remaining work."""
    stuck = Stuck(itertools.chain(range(200, 9, -1), itertools.cycle((12, 500, 10))))
    with pytest.raises(BrokerError, match="not acknowledged all publications within 3 s"):
        stuck.run()
    assert stuck.now == pytest.approx(3 + 190 * 0.02, abs=0.2)


def test_unaccepted_clients_are_counted_in_the_error() -> None:
    """The error has the number of unaccepted clients, and advice."""
    stuck = Stuck(itertools.repeat(7))
    stuck.unaccepted, stuck.count.connected = 7, 5
    with pytest.raises(BrokerError, match=r"5 connections are open, 7 are not accepted; .*ulimit -n"):
        stuck.run()


def test_broker_that_is_away_for_too_long_ends_the_plan() -> None:
    """A plan without end needs a broker; the progress has the time since it went away."""
    stuck = Stuck(itertools.repeat(0), away_at=5)
    with pytest.raises(BrokerError, match=r"away since \d\d:\d\d:\d\d, for 3 s"):
        stuck.run()
    assert stuck.now == pytest.approx(8, abs=0.2)
    assert min(p.away_s for p in stuck.reported if p.away_s is not None) < 0.2


def test_connections_beyond_what_the_system_allows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the limit and the remedy."""
    limits = [(256, 1000)]
    monkeypatch.setattr(socket_loop.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(socket_loop.resource, "setrlimit", lambda _, new: limits.append(new))
    socket_loop.allow_files(500)
    assert limits[-1] == (564, 1000)
    with pytest.raises(ConfigError, match="ulimit"):
        socket_loop.allow_files(1000)


def server_answer(websocket: WebSocketClient) -> bytes:
    """Return a server's answer to the request of a WebSocket."""
    server = ServerProtocol(subprotocols=[Subprotocol("mqtt")])
    server.receive_data(websocket.output())
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    return b"".join(server.data_to_send())


def test_websocket_buffers_until_accepted_and_reads_a_stream() -> None:
    """Data waits for the server's acceptance; received frames may have pieces of any size."""
    websocket = WebSocketClient(BrokerUrl.parse("ws://user:secret@localhost:9001/path"))
    websocket.send(b"CONNECT")
    answer = server_answer(websocket)
    assert list(websocket.feed(answer[:20])) == []
    assert websocket.output() == b""
    assert list(websocket.feed(answer[20:] + b"\x82\x02ab\x89\x00\x82\x01c")) == [b"ab", b"c"]
    sent = websocket.output()
    pong, early = sent[:6], sent[6:]
    assert pong[:2] == b"\x8a\x80"
    assert early[:2] == b"\x82\x87"
    assert bytes(c ^ early[2 + i % 4] for i, c in enumerate(early[6:])) == b"CONNECT"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", ConnectionError, "HTTP 404"),
        (b"\x20\x02\x00\x00\r\n", ConnectionError, "valid HTTP response"),
        (None, ValueError, "text frame"),
    ],
    ids=["http", "mqtt", "text"],
)
def test_websocket_reports_a_failed_handshake(
    answer: bytes | None, error: type[Exception], message: str
) -> None:
    """The error names the reason when a server does not speak MQTT over WebSocket."""
    websocket = WebSocketClient(BrokerUrl.parse("ws://localhost"))
    with pytest.raises(error, match=message):
        list(websocket.feed(answer or server_answer(websocket) + b"\x81\x02ab"))


def test_websocket_that_is_closed_is_over() -> None:
    """A close frame ends the connection, as the end of a TCP connection does."""
    websocket = WebSocketClient(BrokerUrl.parse("ws://localhost"))
    with pytest.raises(ConnectionError, match="closed"):
        list(websocket.feed(server_answer(websocket) + b"\x88\x00"))
