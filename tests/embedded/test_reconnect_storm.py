"""Many clients that connect, end and are taken over while the bridge reconnects: the order holds."""

import json
import random
import threading

from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.raw_client import RawClient

CLIENTS, LIVES = 10, 20


def live(port: int, client_id: str, seed: int, clean: bool) -> None:
    """Connect repeatedly; end in each possible way, or leave the old connection for a takeover."""
    chance = random.Random(seed)
    left_open = []
    topic = f"presence/user/{client_id}"
    for n in range(LIVES):
        payload = json.dumps({"connectionId": f"{client_id}-{n}"})
        raw_client = RawClient(port)
        will = (f"{topic}/will", payload) if chance.random() < 0.5 else None
        assert raw_client.connect("user", client_id, will=will, clean=clean) == 0
        raw_client.publish(f"{topic}/login", payload)
        raw_client.until(4)
        for _ in range(chance.randrange(3)):
            raw_client.publish(f"{topic}/activity", payload, qos=chance.choice([0, 1]))
        match chance.choice(["kill", "disconnect", "logout", "leave"]):
            case "kill":
                raw_client.kill()
            case "disconnect":
                raw_client.disconnect()
            case "logout":
                raw_client.publish(f"{topic}/logout", payload)
                raw_client.disconnect()
            case "leave":
                left_open.append(raw_client)
    for raw_client in left_open:
        raw_client.sock.close()


def test_each_login_is_followed_by_its_end_before_the_next_login():
    """The order holds however clients end and however often the bridge reconnects."""
    with embedded_server() as server:
        bridge = server.bridge()
        clients = [
            threading.Thread(target=live, args=(server.port, f"c{n}", n, bool(n % 2))) for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        begun: dict[str, list[str]] = {}
        ended: set[str] = set()
        received = 0
        while len(ended) < CLIENTS * LIVES:
            message = bridge.message(10)
            received += 1
            _, _, client_id, verb = message.topic.split("/")
            connection_id = json.loads(message.payload)["connectionId"]
            logins = begun.setdefault(client_id, [])
            if verb == "login" and connection_id not in logins:
                assert ended.issuperset(logins), f"{connection_id} begins before {logins[-1]} has ended"
                logins.append(connection_id)
            elif verb in ("will", "logout"):
                ended.add(connection_id)
            if received % 100 == 0:
                bridge.kill()
                bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
        for client in clients:
            client.join()
    assert {c: len(logins) for c, logins in begun.items()} == {f"c{n}": LIVES for n in range(CLIENTS)}
