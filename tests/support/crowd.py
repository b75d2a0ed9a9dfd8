"""The clients of `mqtt-presence simulate` in a thread: real connections, with wills, that come back when they break."""

import threading
from itertools import chain
from time import monotonic
from typing import Self

from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.tools.simulate.scenario import Action, Plan, Scenario
from mqtt_presence.tools.simulate.simulated_devices import SimulatedDevice, SimulatedDevices
from mqtt_presence.tools.simulate.simulated_names import SimulatedNames
from mqtt_presence.tools.simulate.socket_loop import Loop, find_target
from mqtt_presence.tools.simulate.status_reader import StatusReader
from tests.support.brokers import BRIDGE_PASSWORD, PASSWORD, Shipped
from tests.support.said import Client, Said
from tests.support.waiting import until

CROWD = tuple(f"sim-{n}" for n in range(40))
"""Its users; the broker must know them."""


class Crowd:
    """Clients that log in, report, leave and are cut, until they shall be `quiet`; they answer announcements.

    Args:
        broker: it knows the users of `CROWD`.
        said: is told what the broker has acknowledged.
        rate: how much they say a second.
        seed: of what they do.
        unsaid: every other one that would be cut disconnects instead, without a logout: nobody but the broker's log
            tells that it is gone.

    """

    def __init__(
        self, broker: Shipped, said: Said, *, rate: float = 300.0, seed: int = 0, unsaid: bool = False
    ) -> None:
        self._loop = Loop()
        scenario = Scenario(users=len(CROWD), connections=2, rate=rate, churn=0.3, seed=seed)
        self._plan = Plan(scenario)
        target, topics = find_target(BrokerUrl("mqtt", "127.0.0.1", broker.port), None), Topics("")
        self._fleet = _Fleet(self._loop, target, topics, SimulatedNames("sim", scenario.users, 2, PASSWORD))
        self._fleet.tell(said, unsaid=unsaid)
        self._observer = StatusReader(
            self._loop,
            target,
            BrokerUrl("mqtt", "127.0.0.1", broker.port, username="bridge", password=BRIDGE_PASSWORD),
            topics=topics,
            user_ids=CROWD,
            on_announce=self._fleet.answer_announce,
        )
        self._quiet, self._over, self._settled = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._quiet.set()
        self._over.set()
        self._thread.join(20)
        self._loop.close()

    @property
    def logins(self) -> int:
        """How many the broker has acknowledged."""
        return self._fleet.count.logins

    def wait_for_logins(self, more: int) -> None:
        """Wait until there are so many more than now: it is at work."""
        target = self.logins + more
        until(lambda: self.error or self.logins >= target, f"{more} more logins")

    def quiet(self) -> None:
        """Have nothing new said, and wait until all that was said is acknowledged; they stay connected."""
        self._quiet.set()
        until(lambda: self.error or self._settled.is_set(), "all is acknowledged")
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            began = monotonic()
            for step in chain(self._plan.arrivals(), self._plan.steps()):
                while self._fleet.is_busy or (monotonic() < began + step.at_s and not self._quiet.is_set()):
                    self._serve()
                if self._quiet.is_set():  # this step does not happen; no other step depends on it
                    break
                self._fleet.add(step.client, step.action)
            while not self._over.is_set():
                self._serve()
                if not self._fleet.left:
                    self._settled.set()
        except BaseException as error:  # noqa: BLE001 - for the test to see
            self.error = error

    def _serve(self) -> None:
        self._observer.maintain()
        if self._observer.is_up:  # clients that reconnect must receive later announcements
            self._fleet.maintain()
        self._loop.run_once(0.005)


class _Fleet(SimulatedDevices):
    """Tells what was acknowledged."""

    def tell(self, said: Said, *, unsaid: bool) -> None:
        self._devices = [
            _Device(self, *self.names.of_client(n), said, unsaid=unsaid) for n in range(len(self._devices))
        ]


class _Device(SimulatedDevice):
    __slots__ = ("_client", "_said", "_unsaid", "_waiting")

    def __init__(
        self, devices: SimulatedDevices, user_id: str, client_id: str, said: Said, *, unsaid: bool
    ) -> None:
        super().__init__(devices, user_id, client_id)
        self._unsaid = unsaid
        self._client = Client(user_id, client_id)
        self._said = said
        self._waiting: dict[int, tuple[str, bytes]] = {}

    def _perform(self, action: Action) -> None:
        if action is Action.CUT and self._unsaid and self._devices.count.cuts % 2:
            self.disconnect_without_logout()
        super()._perform(action)

    def _publish(self, verb: str, payload: bytes) -> int:
        packet_id = super()._publish(verb, payload)
        self._waiting[packet_id] = verb, payload
        return packet_id

    def _on_acknowledged(self, packet_id: int) -> None:
        self._said.note(self._client, *self._waiting.pop(packet_id))
        super()._on_acknowledged(packet_id)

    def _close(self) -> None:
        """However it ends, who is not connected is not there, and the broker sends the will."""
        if any(verb == "login" for verb, _ in self._waiting.values()):
            self._said.unsure.add((self._client, self._connection_id))
        self._waiting.clear()
        self._said.gone(self._client)
        super()._close()
