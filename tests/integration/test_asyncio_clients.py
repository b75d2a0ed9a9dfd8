"""The clients for asyncio against a real mosquitto and a bridge, and the callbacks of all clients."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mqtt_presence import PresenceClient, StatusWatcher, aio
from mqtt_presence.client import asyncio_changes
from mqtt_presence.client.asyncio_clients import ConnectOptions, PresenceOptions
from mqtt_presence.errors import BrokerError, PresenceError
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.waiting import DEADLINE_S, until

FAST = {"reconnect_min": 0.05, "reconnect_max": 0.1}


@pytest.fixture
def bridged(mosquitto: Mosquitto, sqlite_url: str) -> Iterator[Mosquitto]:
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        yield mosquitto


def url_of(broker: Mosquitto, user: str = "alice") -> str:
    return f"mqtt://{user}@127.0.0.1:{broker.port}"


async def soon(condition, what: str) -> None:
    """Wait in the loop for a condition."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - as `until` does
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not in time: {what}")


async def next_of(changes: aio.Changes):
    return await asyncio.wait_for(anext(changes), DEADLINE_S)


def test_user_comes_idles_and_goes(bridged: Mosquitto) -> None:
    """The watcher's iterator begins with the present users and has each change after that, in order."""

    async def run() -> None:
        async with aio.StatusWatcher(url_of(bridged, "me"), **FAST) as users:
            assert users.connected
            assert await users.wait_for(lambda users: users.bridge_connected, DEADLINE_S)
            async with aio.PresenceClient(url_of(bridged), client_id="phone", **FAST) as alice:
                assert (alice.user, alice.client_id, alice.connected) == ("alice", "phone", True)
                assert await users.wait_for(lambda users: users["alice"].online, DEADLINE_S)
                changes = aiter(users)
                first = await next_of(changes)
                assert (first.old, first.new.user_id, str(first.new.state)) == (None, "alice", "online")
                await alice.monitor.start(threshold=0.2, interval=1)
                idle = await next_of(changes)
                assert idle.new.idle
                assert alice.monitor.is_idle
                alice.monitor.ping()
                assert not (await next_of(changes)).new.idle
                assert alice.heartbeat()
                alice.monitor.stop()
                assert abs(alice.server_time.offset) < 5
            gone = await next_of(changes)
            assert (gone.old.online, gone.new.online) == (True, False)
            assert {name: user.online for name, user in users.items()} == {"alice": False}
            assert not await users.wait_for(lambda users: users["nobody"].online, 0.01)
        with pytest.raises(StopAsyncIteration):
            await next_of(changes)
        with pytest.raises(StopAsyncIteration):
            await next_of(changes)

    asyncio.run(run())


def test_loop_goes_on_while_a_client_waits(mosquitto: Mosquitto) -> None:
    """Connecting to a broker that does not answer blocks no other task, and the error is the usual one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        async def run() -> int:
            connecting = asyncio.ensure_future(aio.PresenceClient(f"mqtt://a@127.0.0.1:{port}").connect(0.3))
            turns = 0
            while not connecting.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(BrokerError, match=r"did not answer in 0\.3 s"):
                await connecting
            return turns

        assert asyncio.run(run()) > 5


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.01, 0.05])
def test_cancelled_connect_leaves_nobody_online(bridged: Mosquitto, delay_s: float) -> None:
    """Whenever the task is cancelled, the client is away afterwards, and it can connect again."""

    async def run() -> None:
        client = aio.PresenceClient(url_of(bridged), **FAST)
        connecting = asyncio.ensure_future(client.connect())
        await asyncio.sleep(delay_s)
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
            await client.disconnect()  # the connection was quicker than the cancellation
        assert not client.connected
        names = [thread.name for thread in threading.enumerate()]
        assert f"mqtt-presence-{client.client_id}" not in names
        await client.connect()
        assert client.connected
        assert await client.disconnect()

    asyncio.run(run())


def test_callbacks_follow_broker_and_bridge(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Each is called once for each change: coroutine functions in the loop, functions in the thread."""
    seen: list[object] = []
    threads: set[str] = set()

    async def bridge(online: bool) -> None:
        seen.append(online)
        threads.add(threading.current_thread().name)

    def fails() -> None:
        raise RuntimeError("a bug of the program")

    async def run() -> None:
        watcher = aio.StatusWatcher(
            url_of(mosquitto, "me"),
            on_connect=lambda: seen.append("up"),
            on_disconnect=lambda: seen.append("down"),
            on_bridge=bridge,
            **FAST,
        )
        async with watcher, aio.PresenceClient(url_of(mosquitto), on_connect=fails, **FAST) as client:
            await soon(lambda: seen == ["up"], "connected")
            with BridgeThread(broker=mosquitto.url, database=sqlite_url):
                await soon(lambda: seen == ["up", True], "the bridge is online")
            await soon(lambda: seen == ["up", True, False], "the bridge has left")
            mosquitto.kill()
            await soon(lambda: seen[3:] == ["down"], "the broker is gone")
            mosquitto.start()
            await soon(lambda: seen[4:] == ["up"], "connected again")
            await soon(lambda: client.connected, "the other client too")
        await soon(lambda: seen[5:] == ["down"], "closed")

    asyncio.run(run())
    assert threads == {threading.main_thread().name}


def test_callbacks_of_the_other_clients(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """`mqtt_presence.PresenceClient` and `StatusWatcher` call them in the connection's thread."""
    for kind in (PresenceClient, StatusWatcher):
        seen: list[object] = []
        client = kind(
            url_of(mosquitto, "me"),
            on_connect=lambda seen=seen: seen.append("up"),
            on_disconnect=lambda seen=seen: seen.append("down"),
            on_bridge=seen.append,
            **FAST,
        )
        with client, BridgeThread(broker=mosquitto.url, database=sqlite_url):
            until(lambda seen=seen: seen == ["up", True], "both are there")
        assert seen[2:] in ([False, "down"], ["down"])


def test_changes_that_are_not_fetched_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is too slow learns that some changes are lost; the present users do not count."""
    monkeypatch.setattr(asyncio_changes, "MAX_PENDING", 3)

    async def run() -> None:
        watcher = aio.StatusWatcher("mqtt://127.0.0.1")
        for n in range(10):
            feed(watcher, f"before{n}", 1)
        changes = aiter(watcher)
        for n in range(10):
            feed(watcher, f"after{n}", 1)
        got = [(await next_of(changes)).user_id for _ in range(14)]
        assert got == [*(f"before{n}" for n in range(10)), "after0", "after1", "after2", "after3"]
        with pytest.raises(PresenceError, match="not fetched"):
            await next_of(changes)
        with pytest.raises(StopAsyncIteration):
            await next_of(changes)

    def feed(watcher: aio.StatusWatcher, user: str, version: int) -> None:
        status = {"userId": user, "state": "online", "online": True, "connections": 1, "version": version}
        watcher._watcher._message(f"status/{user}", json.dumps(status).encode(), False)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("client", "options"), [(PresenceClient, PresenceOptions), (StatusWatcher, ConnectOptions)]
)
def test_options_are_the_arguments_of_the_other_clients(client: type, options: type) -> None:
    """A new argument is in both, with the same type."""
    own = {"self", "url", "on_connect", "on_disconnect", "on_bridge"}
    arguments = {
        name: parameter.annotation
        for name, parameter in inspect.signature(client).parameters.items()
        if name not in own
    }
    assert arguments == options.__annotations__


def test_status_as_a_dictionary_is_the_message(bridged: Mosquitto) -> None:
    """`to_dict` gives the JSON that was on MQTT."""
    recorder = bridged.recorder("status/+")
    with StatusWatcher(url_of(bridged, "me")) as users, PresenceClient(url_of(bridged)):
        assert users.wait_for(lambda users: users["alice"].online, DEADLINE_S)
        recorder.wait_for_state("alice", "online")
        assert users["alice"].to_dict() == recorder.last("status/alice")
