"""docs/monitoring.md and the files of Prometheus and Grafana: run as they are, with other ports."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from mqtt_presence.store import Store
from tests.support.brokers import Mosquitto
from tests.support.monitored import Monitored
from tests.support.postgres import Postgres
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text("utf-8")
PROMETHEUS = ROOT / "broker_config/prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "broker_config/grafana/dashboard.json").read_text("utf-8"))
NAMED = re.compile(r"\b(?:mqtt_presence|process)_\w+")


def recipes(name: str) -> list[str]:
    """Return the blocks of the page with this mark."""
    found = re.findall(rf"<!-- recipe: {name} -->\n```\w+\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, name
    return found


@pytest.fixture
def bridge(mosquitto: Mosquitto, sqlite_url: str) -> Iterator[Monitored]:
    receiver = {"name": "ops", "url": f"http://127.0.0.1:{free_port()}/", "on": ["userOnline"]}
    with Monitored(sqlite_url, broker=mosquitto.url, notify=[receiver], notify_private=True) as started:
        mosquitto.say("alice", "phone", "login")
        until(lambda: started.value("users", state="online") == 1, "alice is there")
        until(lambda: started.value("last_message_timestamp_seconds"), "and the turn of her message is over")
        yield started


def test_notifications_that_wait_are_counted(bridge: Monitored) -> None:
    """The receiver is away: its notification waits, and the request has failed."""
    until(lambda: (bridge.value("notify_failed_total", name="ops") or 0) >= 1, "the request has failed")
    assert bridge.value("notify_pending", name="ops") == 1


def names_of(bridge: Monitored) -> set[str]:
    """Return the names of all series."""
    return {name for name, _ in bridge.series()}


def promtool(*arguments: object, cwd: Path = PROMETHEUS) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# The page.


def test_shell_recipes(bridge: Monitored, mosquitto: Mosquitto) -> None:
    """The commands for health and for MQTT print what the page shows."""
    until(lambda: bridge.ready()[0] == 200, "it is ready")
    script = recipes("health")[0].replace(":9180", f":{bridge.port}")
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30)
    shown = re.findall(r"```json\n(.*?)\n```", PAGE)
    assert done.stdout == "".join(shown)
    script = recipes("mqtt")[0].replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {mosquitto.port}")
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout)["state"] == "online"


def test_probes_of_kubernetes(bridge: Monitored) -> None:
    """Each probe names a path that answers, and the port that the arguments open."""
    (container,) = yaml.safe_load(recipes("kubernetes")[0])["containers"]
    port = container["ports"][0]
    assert container["args"][container["args"].index("--monitor-port") + 1] == str(port["containerPort"])
    until(lambda: bridge.ready()[0] == 200, "it is ready")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert get["port"] == port["name"]
        assert bridge.get(get["path"]).status == 200
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_metrics_of_the_page_are_those_of_the_bridge(bridge: Monitored) -> None:
    """The table has every metric, with its labels, and no other."""
    table = PAGE.split("### Metrics")[1].split("### Alerts")[0]
    documented = {
        name: frozenset(labels.split(",")) if labels else frozenset()
        for name, labels in re.findall(r"^\| `(\w+)(?:\{([\w,]+)\})?` \|", table, re.MULTILINE)
    }
    found: dict[str, frozenset[str]] = {}
    for name, labels in bridge.series():
        if name.startswith("mqtt_presence_"):
            short = re.sub(r"_(bucket|sum|count)$", "", name.removeprefix("mqtt_presence_"))
            found[short] = found.get(short, frozenset()) | {label for label, _ in labels} - {"le"}
    assert documented == found


def test_queries_for_grafana(postgres: Postgres) -> None:
    """Each query runs on PostgreSQL, as a user that may only read, and finds what is there."""
    url = postgres.database()
    store = Store(url)
    store.open()
    store.close()
    now_s = int(time.time())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO user_states (user_id, state, online, since, connections, version) "
            "VALUES ('alice', 'offline', FALSE, %s, 0, 1)",
            [(now_s - 3600) * 1000],
        )
        connection.execute(
            "INSERT INTO connection_records (id, user_id, client_id, connection_id, named, announce, live, "
            "login_time, logout_time, reason) VALUES (1, 'alice', 'phone', 'a', TRUE, FALSE, FALSE, %s, %s, 'lost')",
            [(now_s - 7200) * 1000, (now_s - 3600) * 1000],
        )
        connection.execute(
            "INSERT INTO pulses (id, last_seen, heartbeats, reports) VALUES (1, 1, FALSE, FALSE)"
        )
        for statement in recipes("reader")[0].split(";"):
            if statement.strip():
                connection.execute(statement.encode())
        connection.execute("SET ROLE grafana")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM users")
        queries = recipes("sql")
        assert len(queries) == PAGE.count("<!-- recipe: sql -->")
        for query in queries:
            filled = query.replace("$__unixEpochFrom()", str(now_s - 10_000))
            filled = filled.replace("$__unixEpochTo()", str(now_s)).replace("$user", "alice")
            assert "$" not in filled
            rows = connection.execute(filled.encode()).fetchall()
            assert any(row[-1] for row in rows), query


# Prometheus.


def test_alerts_are_accepted_and_fire_as_they_should() -> None:
    """Promtool accepts configuration and rules, and its unit test of each alert passes."""
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_tested_and_documented() -> None:
    """No alert without a test that raises it, one that does not, and a row in the page."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    cases = [
        case
        for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    table = PAGE.split("### Alerts")[1].split("## Grafana")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [rule["alert"] for rule in rules]
    for rule in rules:
        of_rule = [case for case in cases if case["alertname"] == rule["alert"]]
        assert any(case.get("exp_alerts") for case in of_rule), rule["alert"]
        assert any(not case.get("exp_alerts") for case in of_rule), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}


def test_alerts_and_dashboard_ask_for_metrics_that_exist(bridge: Monitored, tmp_path: Path) -> None:
    """Every name is one of the bridge's, every expression is one that Prometheus reads."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert len(shown) > 20
    existing = names_of(bridge)
    for expression in (*shown, *variables, *(rule["expr"] for rule in rules)):
        assert set(NAMED.findall(expression)) <= existing, expression
    used = {name for expression in shown for name in NAMED.findall(expression)}
    plain = {re.sub(r"_(bucket|sum|count)$", "", n) for n in used if n.startswith("mqtt_presence_")}
    all_plain = {re.sub(r"_(bucket|sum|count)$", "", n) for n in existing if n.startswith("mqtt_presence_")}
    assert all_plain == plain, "the dashboard shows every metric"
    filled = [e.replace("$__rate_interval", "5m").replace("$instance", ".*") for e in shown]
    assert not [expression for expression in filled if "$" in expression]
    records = [{"record": f"shown:{number}", "expr": e} for number, e in enumerate(filled)]
    file = tmp_path / "shown.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": records}]}), "utf-8")
    promtool("check", "rules", "--lint=none", file)


def test_dashboard_is_one_that_grafana_imports() -> None:
    """Panels have places that do not overlap, texts, and the data source that the reader chooses."""
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        covered = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not covered & places, panel["title"]
        places |= covered
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [panel["id"] for panel in DASHBOARD["panels"]] == list(range(1, len(DASHBOARD["panels"]) + 1))
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


@contextmanager
def prometheus(directory: Path, target_port: int) -> Iterator[int]:
    """Run Prometheus with the shipped files, on another port and every half second."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    shown = yaml.safe_load(recipes("prometheus")[0])
    assert {key: config[key] for key in shown} == shown, "the page shows the file"
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target_port}"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    (directory / "alerts.yml").write_bytes((PROMETHEUS / "alerts.yml").read_bytes())
    port = free_port()
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_prometheus_scrapes_and_raises_the_alert(
    bridge: Monitored, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """The shipped files in a real Prometheus: it has the figures, and notices that the broker is away."""

    def ask(query: str) -> list[tuple[dict[str, str], float]]:
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:  # it has not started yet
            return []
        return [(entry["metric"], float(entry["value"][1])) for entry in found]

    with prometheus(tmp_path, bridge.port) as port:
        until(lambda: ask('mqtt_presence_users{state="online"}'), "it has scraped")
        ((labels, value),) = ask('mqtt_presence_users{state="online"}')
        assert (labels["job"], value) == ("mqtt-presence", 1)
        mosquitto.kill()
        until(lambda: ask('ALERTS{alertname="MqttPresenceBrokerAway"}'), "the alert is on its way")
        mosquitto.start()
        until(lambda: not ask('ALERTS{alertname="MqttPresenceBrokerAway"}'), "and withdrawn")
