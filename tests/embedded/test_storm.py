"""Many clients at once that come, go and are taken over, and a bridge that breaks off: the order holds."""

import json
import random
import threading

from tests.embedded.brokers import SECRET, ours
from tests.embedded.wire import Wire

CLIENTS, LIVES = 10, 20


def live(port: int, client_id: str, seed: int, clean: bool) -> None:
    """Connect again and again; end in every way, or leave the old connection to be taken over."""
    chance = random.Random(seed)
    left_open = []
    topic = f"presence/user/{client_id}"
    for n in range(LIVES):
        payload = json.dumps({"connectionId": f"{client_id}-{n}"})
        wire = Wire(port)
        will = (f"{topic}/will", payload) if chance.random() < 0.5 else None
        assert wire.connect("user", client_id, will=will, clean=clean) == 0
        wire.publish(f"{topic}/login", payload)
        wire.until(4)
        for _ in range(chance.randrange(3)):
            wire.publish(f"{topic}/activity", payload, qos=chance.choice([0, 1]))
        match chance.choice(["kill", "disconnect", "logout", "leave"]):
            case "kill":
                wire.kill()
            case "disconnect":
                wire.disconnect()
            case "logout":
                wire.publish(f"{topic}/logout", payload)
                wire.disconnect()
            case "leave":
                left_open.append(wire)
    for wire in left_open:
        wire.sock.close()


def test_every_connection_ends_before_the_next_of_its_client_begins():
    """However clients go and however often the bridge reconnects, each login is followed by its end, in order."""
    with ours() as house:
        bridge = house.bridge()
        clients = [
            threading.Thread(target=live, args=(house.port, f"c{n}", n, bool(n % 2))) for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        begun: dict[str, list[str]] = {}
        ended: set[str] = set()
        heard = 0
        while len(ended) < CLIENTS * LIVES:
            message = bridge.message(10)
            heard += 1
            _, _, client_id, verb = message.topic.split("/")
            connection_id = json.loads(message.payload)["connectionId"]
            logins = begun.setdefault(client_id, [])
            if verb == "login" and connection_id not in logins:
                assert ended.issuperset(logins), f"{connection_id} begins before {logins[-1]} has ended"
                logins.append(connection_id)
            elif verb in ("will", "logout"):
                ended.add(connection_id)
            if heard % 100 == 0:
                bridge.kill()
                bridge = house.client("bridge", "bridge-4711", clean=False, password=SECRET)
        for client in clients:
            client.join()
    assert {c: len(logins) for c, logins in begun.items()} == {f"c{n}": LIVES for n in range(CLIENTS)}
