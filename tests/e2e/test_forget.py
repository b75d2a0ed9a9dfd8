"""`mqtt-presence forget` of a user with very many records, beside a bridge, and killed in the middle."""

import subprocess
import sys

from mqtt_presence.store import Store
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.crowded import Crowd
from tests.support.postgres import query
from tests.support.waiting import until

MANY = 60_000


def count(database: str) -> int:
    (row,) = query(database, "SELECT COUNT(*) AS n FROM connection_records WHERE user_id = 'records'")
    return int(row["n"])


def forget(broker: str, database: str) -> subprocess.Popen[bytes]:
    arguments = ("forget", "records", "--yes", "--broker", broker, "--database", database)
    return subprocess.Popen([sys.executable, "-m", "mqtt_presence", *arguments])


def test_messages_go_on_and_a_kill_leaves_a_user_to_forget_again(mosquitto: Mosquitto, database: str) -> None:
    """Another user's login is shown before all is deleted; after kill -9 the user is whole, but for history."""
    store = Store(database)
    store.open()
    store.close()
    Crowd(database, MANY)
    with BridgeThread(broker=mosquitto.url, database=database):
        watched = mosquitto.recorder()
        forgetting = forget(mosquitto.url, database)
        try:
            until(lambda: count(database) < MANY, "a portion is deleted", 30)
            mosquitto.say("bob", "phone", "login")
            watched.wait_for_state("bob", "online")
            assert forgetting.poll() is None
            assert count(database) > 0
        finally:
            forgetting.kill()
            forgetting.wait(10)
        assert count(database) > 0
        (user,) = query(database, "SELECT state, connections FROM user_states WHERE user_id = 'records'")
        assert user["state"] == "online"
        open_ones = "SELECT 1 FROM connections WHERE user_id = 'records' AND logout_time IS NULL"
        assert len(query(database, open_ones)) == 3
        assert query(database, "SELECT 1 FROM tombstones") == []
        assert forget(mosquitto.url, database).wait(120) == 0
    assert count(database) == 0
    assert query(database, "SELECT 1 FROM user_states WHERE user_id = 'records'") == []
