"""Server time from round trips: which one counts, when to ask, which replies are refused. Without sockets."""

import pytest

from mqtt_presence.client.server_clock import ServerClock
from mqtt_presence.client.time_sync import ANSWER_TIMEOUT_S, RESYNC_S, ROUND_TRIPS, TimeSync
from mqtt_presence.errors import PayloadError

EPOCH_MS = 1_800_000_000_000


class World:
    """A server whose clock is `ahead_s` ahead of the local wall clock, and the steady clock beside it."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.steady = 1000.0
        self.wall = EPOCH_MS / 1000
        self.ahead_s = ahead_s
        self.sync = TimeSync()

    def wait(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds

    def server_ms(self) -> int:
        return round((self.wall + self.ahead_s) * 1000)

    def poll(self) -> int | None:
        return self.sync.poll(self.steady, self.wall)

    def round_trip(self, there: float, back: float, works: float = 0.0) -> None:
        t0 = self.poll()
        assert t0 is not None
        self.wait(there)
        t1 = self.server_ms()
        self.wait(works)
        t2 = self.server_ms()
        self.wait(back)
        assert self.sync.answer(t0, t1, t2, self.steady)

    def error_ms(self) -> float:
        assert self.sync.estimate is not None
        return self.sync.estimate.at(self.steady) - (self.wall + self.ahead_s) * 1000


def test_first_answer_gives_an_estimate():
    """One reply is enough to be synced; the server's processing time does not count as round trip."""
    world = World(ahead_s=-7.25)
    world.round_trip(0.010, 0.010, works=0.5)
    assert world.sync.estimate.round_trip == pytest.approx(0.020, abs=0.002)
    assert world.error_ms() == pytest.approx(0, abs=2)


def test_shortest_round_trip_wins():
    """A burst keeps its best reply, wherever it comes in the burst; asymmetric slow ones do not spoil it."""
    world = World(ahead_s=3.0)
    for there, back in ((0.400, 0.010), (0.004, 0.004), (0.010, 0.900), (0.050, 0.050), (0.300, 0.001)):
        world.round_trip(there, back)
    assert world.sync.estimate.round_trip == pytest.approx(0.008, abs=0.002)
    assert world.error_ms() == pytest.approx(0, abs=2)


def test_burst_ends_and_comes_again_after_ten_minutes():
    """Five requests, a pause, then five again."""
    world = World()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    assert world.poll() is None
    world.wait(RESYNC_S - 1)
    assert world.poll() is None
    world.wait(1.1)
    assert world.poll() is not None


def test_resync_replaces_the_estimate_by_its_own_best_only():
    """In a regular resync, the best of the burst replaces the estimate; the first, slow reply does not."""
    world = World()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    world.wait(RESYNC_S + 1)
    world.round_trip(2.0 - 0.2, 0.1)
    assert world.error_ms() == pytest.approx(0, abs=2)
    for _ in range(ROUND_TRIPS - 1):
        world.round_trip(0.02, 0.02)
    assert world.sync.estimate.round_trip == pytest.approx(0.04, abs=0.002)


def test_lost_answers_are_given_up():
    """A request without a reply is followed by the next; a failed burst by a pause and another burst."""
    world = World()
    asked = set()
    for _ in range(ROUND_TRIPS):
        asked.add(world.poll())
        assert world.poll() is None
        world.wait(ANSWER_TIMEOUT_S)
    assert len(asked) == ROUND_TRIPS
    assert world.poll() is None
    world.wait(5)
    world.round_trip(0.01, 0.01)
    assert world.sync.estimate is not None


def test_pause_after_lost_bursts_grows():
    """An absent bridge is asked less and less often, but at least every minute."""
    world = World()
    pauses = []
    for _ in range(7):
        for _ in range(ROUND_TRIPS):
            assert world.poll() is not None
            world.wait(ANSWER_TIMEOUT_S)
        assert world.poll() is None
        begin = world.steady
        while world.sync._due > world.steady:
            world.wait(0.5)
        pauses.append(world.steady - begin)
    assert pauses == [5, 10, 20, 40, 60, 60, 60]


def test_answers_to_nothing_are_ignored():
    """Late, repeated and forged replies have no effect, nor one that claims more time than the round trip took."""
    world = World()
    first = world.poll()
    now = world.server_ms()
    assert not world.sync.answer(first + 1, now, now, world.steady)
    assert not world.sync.answer(first, now, now + 60_000, world.steady + 0.01)
    world.wait(ANSWER_TIMEOUT_S)
    second = world.poll()
    assert not world.sync.answer(first, now, now, world.steady)
    assert world.sync.estimate is None
    assert world.sync.answer(second, now, now, world.steady)
    assert not world.sync.answer(second, now, now, world.steady)


@pytest.mark.parametrize(("jump", "asks"), [(6.0, True), (-6.0, True), (4.0, False), (-4.0, False)])
def test_clock_jump_asks_again(jump, asks):
    """After the wall clock is set by more than five seconds, a request follows at once; the estimate stays."""
    world = World()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    world.wall += jump
    world.ahead_s -= jump
    assert (world.poll() is not None) is asks
    assert world.error_ms() == pytest.approx(0, abs=2)


def test_machine_that_slept_believes_the_first_answer():
    """After a jump the old estimate may be wrong by hours, so the first reply replaces it."""
    world = World()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    world.wall += 3600  # the steady clock stood still
    world.round_trip(0.2, 0.2)
    assert world.error_ms() == pytest.approx(0, abs=2)


def test_interrupted_burst_begins_again():
    """After a connection is lost in the middle of a burst, a whole new burst follows."""
    world = World()
    world.poll()
    world.sync.connection_lost()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    assert world.poll() is None


def test_bridge_that_comes_is_asked_at_once():
    """A bridge that comes online is asked without a pause, unless the time is known already."""
    world = World()
    for _ in range(ROUND_TRIPS):
        world.poll()
        world.wait(ANSWER_TIMEOUT_S)
    assert world.poll() is None
    world.sync.bridge_appeared()
    for _ in range(ROUND_TRIPS):
        world.round_trip(0.01, 0.01)
    world.sync.bridge_appeared()
    assert world.poll() is None


def make_clock(world, sent):
    return ServerClock(sent.append, steady=lambda: world.steady, wall=lambda: world.wall)


def test_clock_tells_server_time():
    """`now`, `offset` and `round_trip` follow from the replies; until then, the local clock is used."""
    world = World(ahead_s=90.0)
    sent = []
    clock = make_clock(world, sent)
    assert not clock.is_synced
    assert clock.offset is None
    assert clock.round_trip is None
    assert clock.now() == EPOCH_MS
    assert not clock.wait_synced(0)
    clock.tick()
    world.wait(0.02)
    request = sent.pop()
    middle = world.server_ms() - 10
    clock.receive(request[:-1] + b',"t1":%d,"t2":%d}' % (middle, middle))
    assert clock.is_synced
    assert clock.wait_synced(0)
    assert clock.offset == pytest.approx(90.0, abs=0.002)
    assert clock.round_trip == pytest.approx(0.02)
    assert clock.now() == pytest.approx(world.server_ms(), abs=2)
    assert sent  # the next question of the burst is out at once


def test_clock_refuses_junk():
    """Junk is refused without any effect."""
    world = World()
    sent = []
    clock = make_clock(world, sent)
    clock.tick()
    for junk in (
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"t0":1,"t1":"a","t2":2}',
        b'{"t0":1,"t1":3,"t2":2}',
        b'{"t0":1,"t1":-1,"t2":2}',
    ):
        with pytest.raises(PayloadError):
            clock.receive(junk)
    assert not clock.is_synced
