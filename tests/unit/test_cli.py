"""The commands in this process, on a database filled like that of a bridge."""

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mqtt_presence import __version__
from mqtt_presence.cli import logs
from mqtt_presence.cli.app import app
from mqtt_presence.cli.output import format_duration, plain, print_json
from mqtt_presence.errors import StoreError
from mqtt_presence.protocol.times import to_iso
from mqtt_presence.rules.events import Activity, End, Login
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import ClientId, ConnectionId, Reason, RuleSettings, State, UserId
from mqtt_presence.settings import PREFIX, load
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader

T0 = 1_795_000_000_000
HOUR = 3_600_000
HOSTILE = "e\u202evil\u200b[red]x[bold]"
AGENT = "\x1b[31mred\x1b[0m\x07\u009b31m"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def login(user: str, client: str, connection: str, now: int, **more) -> Login:
    return Login(
        user_id=UserId(user),
        client_id=ClientId(client),
        connection_id=ConnectionId(connection),
        now=now,
        **more,
    )


def end(user: str, client: str, connection: str, now: int, reason: Reason = Reason.LOGOUT) -> End:
    return End(
        user_id=UserId(user),
        client_id=ClientId(client),
        connection_id=ConnectionId(connection),
        now=now,
        reason=reason,
    )


def fill(url: str, *events) -> None:
    store = Store(url)
    store.open()
    for event in events:
        with store.transaction() as tx:
            users = tx.load({event.user_id: [event]})
            tx.save([fold(users[event.user_id], [event], RuleSettings())])
    store.close()


def populate(url: str) -> str:
    """Fill a database with four users."""
    fill(
        url,
        login("alice", "phone", "a1", T0, ip_addr="192.0.2.1", user_agent="App 1"),
        end("alice", "phone", "a1", T0 + 90_000, Reason.LOST),
        login("alice", "phone", "a2", T0 + HOUR, ip_addr="192.0.2.1", user_agent="App 2", meta='{"a":[1]}'),
        login("alice", "desk", "a3", T0 + HOUR + 1000, ip_addr="192.0.2.1"),
        login("zed", "tv", "z1", T0),
        end("zed", "tv", "z1", T0 + 1000),
        login("bob", "tv", "b1", T0),
        Activity(
            user_id=UserId("bob"),
            client_id=ClientId("tv"),
            connection_id=ConnectionId("b1"),
            now=T0 + 5,
            idle=True,
        ),
        login(HOSTILE, "[bold]c", "h1", T0, user_agent=AGENT),
    )
    return url


@pytest.fixture
def filled(sqlite_url: str) -> str:
    return populate(sqlite_url)


@pytest.fixture
def filled_anywhere(database: str) -> str:
    """Return the URL of a filled database of each kind in turn."""
    return populate(database)


def test_version_and_help() -> None:
    """Every command has help, and names its settings as flags."""
    assert run("--version").stdout == f"mqtt-presence {__version__}\n"
    for command in ("run", "up", "watch", "users", "history", "forget", "passwd"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert "--config" in shown.stdout
    assert "mqtt[s]|ws[s]://" in run("run", "--help").stdout


def test_users_are_shown_online_first(filled: str) -> None:
    """Online, then idle, then offline users; addresses only with --private."""
    shown = run("users", "--database", filled)
    lines = shown.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["alice", "online"],
        [plain(HOSTILE), "online"],
        ["bob", "idle"],
        ["zed", "offline"],
    ]
    assert "192.0.2.1" not in shown.stdout
    assert "192.0.2.1" in run("users", "--private", "--database", filled).stdout


@pytest.mark.parametrize(
    ("state", "names"), [("online", ["alice", HOSTILE]), ("idle", ["bob"]), ("offline", ["zed"])]
)
def test_users_of_a_state(filled_anywhere: str, state: str, names: list[str]) -> None:
    shown = run("users", "--state", state, "--json", "--database", filled_anywhere)
    assert [json.loads(line)["userId"] for line in shown.stdout.splitlines()] == names


def test_users_as_json_follow_the_protocol(filled: str) -> None:
    """One object a line, spelled as in status/<user>."""
    alice = json.loads(run("users", "--json", "--database", filled).stdout.splitlines()[0])
    assert alice == {
        "userId": "alice",
        "state": "online",
        "online": True,
        "idle": False,
        "since": alice["since"],
        "lastLogin": {"date": alice["lastLogin"]["date"]},
        "lastSeen": alice["lastSeen"],
        "connections": 2,
        "version": 4,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", alice["since"])


def test_history_is_newest_first(filled_anywhere: str) -> None:
    """The connections of all clients of the user, newest first."""
    shown = run("history", "alice", "--database", filled_anywhere)
    rows = [line.split() for line in shown.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["desk", "phone", "phone"]
    records = [
        json.loads(line)
        for line in run("history", "alice", "--json", "--database", filled_anywhere).stdout.splitlines()
    ]
    assert [record["connectionId"] for record in records] == ["a3", "a2", "a1"]
    assert "open" in rows[0]
    assert "1m 30s  lost" in re.sub(" {2,}", "  ", shown.stdout)
    assert "192.0.2.1" not in shown.stdout
    assert "App 2" in run("history", "alice", "--private", "--database", filled_anywhere).stdout


def test_history_of_everybody(filled_anywhere: str) -> None:
    """Without a user: the open connections first, then the ended ones, the last end first; limited as one list."""

    def records(*more: str) -> list[dict[str, Any]]:
        shown = run("history", "--json", *more, "--database", filled_anywhere).stdout
        return [json.loads(line) for line in shown.splitlines()]

    everybody = records()
    assert {record["userId"] for record in everybody} > {"alice"}
    ends = [record.get("logoutTime") for record in everybody]
    ended = [end for end in ends if end]
    assert ends == [None] * (len(ends) - len(ended)) + sorted(ended, reverse=True)
    assert records("--limit", "2") == everybody[:2]
    table = run("history", "--database", filled_anywhere).stdout.splitlines()
    assert table[0].split()[:2] == ["USER", "CLIENT"]
    assert len(table) == len(everybody) + 1


def test_tables_as_csv(filled: str) -> None:
    """The fields of --json, with a line of names; formulas are made harmless."""
    for command in ("users", "history"):
        rows = list(csv.DictReader(run(command, "--csv", "--database", filled).stdout.splitlines()))
        objects = [
            json.loads(line) for line in run(command, "--json", "--database", filled).stdout.splitlines()
        ]
        assert [row["userId"] for row in rows] == [found["userId"] for found in objects]
        for row, found in zip(rows, objects, strict=True):
            for name, value in found.items():
                if isinstance(value, str):
                    assert row[name] == value
    assert run("users", "--csv", "--match", "nobody*", "--database", filled).stdout.startswith(
        "userId,state,"
    )


def test_users_by_name(filled: str) -> None:
    """--match chooses by a pattern, together with --state."""
    assert [
        line.split()[0]
        for line in run("users", "--match", "a*", "--database", filled).stdout.splitlines()[1:]
    ] == ["alice"]
    done = run("users", "--match", "x*", "--database", filled)
    assert (done.exit_code, done.stdout) == (0, "No user matches x*.\n")


def test_history_as_json(filled: str) -> None:
    """Private fields only with --private; `meta` is an object again."""
    lines = run("history", "alice", "--json", "--database", filled).stdout.splitlines()
    last = json.loads(lines[2])
    assert last["reason"] == "lost"
    assert last.keys() == {
        "userId",
        "clientId",
        "connectionId",
        "loginTime",
        "logoutTime",
        "reason",
        "lastSeen",
    }
    private = json.loads(
        run("history", "alice", "--json", "--private", "--database", filled).stdout.splitlines()[1]
    )
    assert (private["ipAddr"], private["userAgent"], private["meta"]) == ("192.0.2.1", "App 2", {"a": [1]})


def test_history_is_limited(filled_anywhere: str) -> None:
    """--limit limits the number, --since the time; open connections count as of now."""
    lines = run(
        "history", "alice", "--limit", "1", "--json", "--database", filled_anywhere
    ).stdout.splitlines()
    assert [json.loads(line)["connectionId"] for line in lines] == ["a3"]
    with Reader(filled_anywhere) as reader:
        found = reader.history("alice", limit=9, since=T0 + 90_001)
        assert [record.connection_id for record in found] == ["a3", "a2"]
        assert len(list(reader.history("alice", limit=9, since=T0 + 90_000))) == 3
    assert run("history", "alice", "--since", "soon", "--database", filled_anywhere).exit_code == 2


def test_history_of_an_unknown_user(filled: str) -> None:
    """An unknown user is an error on standard error."""
    shown = run("history", "nobody", "--json", "--database", filled)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == "mqtt-presence: there is no user nobody\n"


def test_hostile_names_are_harmless(filled: str) -> None:
    """No escape reaches the terminal, no markup is obeyed; JSON has the exact names."""
    for arguments in (
        ("users", "--private"),
        ("history", HOSTILE, "--private"),
        ("users", "--private", "--json"),
        ("history", HOSTILE + "\x1b]0;owned\x07"),
        ("forget", HOSTILE + "\x1b]0;owned\x07"),
    ):
        shown = run(*arguments, "--database", filled)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", shown.stdout + shown.stderr), (
            arguments
        )
    shown = run("users", "--private", "--database", filled).stdout
    assert r"e\u202evil\u200b[red]x[bold]" in shown
    assert r"\x1b[31mred\x1b[0m\x07\x9b31m" in shown
    assert "[bold]c" in run("history", HOSTILE, "--database", filled).stdout
    exact = [
        json.loads(line)
        for line in run("users", "--private", "--json", "--database", filled).stdout.splitlines()
    ]
    assert {user["userId"]: user["lastLogin"].get("userAgent") for user in exact}[HOSTILE] == AGENT


def test_history_costs_what_it_shows(tmp_path: Path) -> None:
    """The newest connections come by the index; without sorting or scanning a table."""
    url = f"sqlite:///{tmp_path / 'plan.db'}"
    fill(url, login("alice", "phone", "a1", T0))
    with Reader(url) as reader:
        asked: list[str] = []
        select = reader._select

        def explain(sql, parameters):
            asked.extend(row[3] for row in select(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return select(sql, parameters)

        reader._select = explain
        list(reader.history("alice", limit=1))
        list(reader.users(State.ONLINE))
        list(reader.open_connections())
    assert any("USING INDEX" in step for step in asked)
    scans = [step for step in asked if step.startswith("SCAN") and "USING" not in step]
    assert set(scans) <= {"SCAN k", "SCAN CONSTANT ROW"}  # the keys that are looked for


def test_reader_creates_no_database(tmp_path: Path) -> None:
    """Reading a missing database does not create it."""
    shown = run("users", "--database", f"sqlite:///{tmp_path / 'none.db'}")
    assert shown.exit_code == 2
    assert "there is no such file" in shown.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            (
                "INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01'); "
                "UPDATE bridge SET value = '9999_later' WHERE name = 'oldest_known_migration'"
            ),
            "newer",
        ),
        ("DELETE FROM schema_migration WHERE name > '0019'", "older"),
        ("DROP TABLE schema_migration", "none of mqtt-presence"),
    ],
)
def test_other_schema_is_refused(sqlite_url: str, change: str, message: str) -> None:
    """A schema of another version is neither misread nor migrated."""
    fill(sqlite_url, login("alice", "phone", "a1", T0))
    store = Store(sqlite_url)
    with store.transaction() as tx:
        for statement in change.split("; "):
            tx._database.execute_sql(statement)
    store.close()
    with pytest.raises(StoreError, match=message), Reader(sqlite_url):
        pass
    shown = run("users", "--database", sqlite_url)
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output


def test_reader_cannot_write(filled_anywhere: str) -> None:
    """The database itself refuses writes of a reader."""
    with Reader(filled_anywhere) as reader, pytest.raises(StoreError):
        reader._select("DELETE FROM user_states", [])


def test_forget_asks_first(sqlite_url: str) -> None:
    """Without a yes, everything is kept."""
    fill(sqlite_url, login("alice", "phone", "a1", T0))
    shown = run("forget", "alice", "--database", sqlite_url, stdin="n\n")
    assert shown.exit_code == 1
    with Reader(sqlite_url) as reader:
        assert reader.has_user("alice")
    shown = run("forget", "alice", "nobody", "--yes", "--database", sqlite_url)  # all of them, or none
    assert (shown.exit_code, "there is no user nobody" in shown.stderr) == (1, True)
    with Reader(sqlite_url) as reader:
        assert reader.has_user("alice")
    assert run("forget", "a/b", "--yes", "--database", sqlite_url).exit_code == 2


def test_passwd_sets_and_removes(tmp_path: Path) -> None:
    """The file is accessible to its owner only, and has no plain password."""
    path = tmp_path / "passwords"
    done = run("passwd", "alice", "--password-file", str(path), "--stdin", stdin="s3cret\n")
    assert (done.exit_code, "s3cret" in done.output) == (0, False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("alice:$argon2")
    done = run("passwd", "bob", "--password-file", str(path), stdin="pw\npw\n")
    assert done.exit_code == 0
    assert [line.split(":")[0] for line in path.read_text().splitlines()] == ["alice", "bob"]
    assert run("passwd", "alice", "--delete", "--password-file", str(path)).exit_code == 0
    assert run("passwd", "alice", "--delete", "--password-file", str(path)).exit_code == 1


@pytest.mark.parametrize(
    ("user", "stdin"), [("alice", ""), ("alice", "\n"), ("a/b", "x\n"), ("bridge", "x\n")]
)
def test_passwd_refuses(tmp_path: Path, user: str, stdin: str) -> None:
    """An empty password or name, or the name of the bridge, is refused."""
    done = run("passwd", user, "--stdin", "--password-file", str(tmp_path / "p"), stdin=stdin)
    assert done.exit_code == 2
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--grace=-1"), "grace=-1: must be 0 or more"),
        (("run", "--config", "/none.toml"), "/none.toml: there is no such file"),
        (("up", "--open", "--password-file", "/none"), "open and password_file contradict each other"),
        (("up", "--host", "0.0.0.0", "--open", "--port", "0"), "insecure"),
        (("up", "--no-open", "--password-file", "/none"), "password_file='/none'"),
        (("watch", "--ca-file", "/none.pem"), "ca_file"),
    ],
)
def test_wrong_setting_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """Standard error has one line that names the setting."""
    database = () if arguments[0] == "watch" else ("--database", f"sqlite:///{tmp_path / 'x.db'}")
    done = run(*arguments, *database)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_log_lines_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """Names in the log are escaped, JSON lines are JSON, and text lines have the short name of the logger."""
    before = logging.getLogger().handlers[:]
    try:
        logs.start(load({}))
        logging.getLogger("mqtt_presence.bridge.link.link").info("user=%s", "a\x1b[2J\nfake line")
        logs.start(load({"log_format": "json"}))
        logging.getLogger("mqtt_presence.bridge").warning("user=%s", "a\u009b")
    finally:
        logging.basicConfig(handlers=before, force=True, level=logging.WARNING)
        logging.getLogger("mqtt_presence").setLevel(logging.NOTSET)
    readable, as_json = capsys.readouterr().err.splitlines()
    assert readable.endswith(r"info    bridge: user=a\x1b[2J\nfake line")
    assert json.loads(as_json) | {"time": ""} == {
        "time": "", "level": "warning", "logger": "mqtt_presence.bridge", "message": "user=a\u009b",
    }  # fmt: skip


def test_json_line_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are escaped in JSON, as exact as before."""
    value = {"é": "\x1b\u009b\u202e\u2028é😀"}
    print_json(json.dumps(value, ensure_ascii=False).encode())
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert said.isascii()
    assert plain(said.rstrip("\n")) == said.rstrip("\n")


@pytest.mark.parametrize(
    ("millis", "text"),
    [(0, "0s"), (-5, "0s"), (59_999, "59s"), (3_600_000, "1h"), (90_061_000, "1d 1h"), (62_000, "1m 2s")],
)
def test_duration_has_two_units(millis: int, text: str) -> None:
    assert format_duration(millis) == text


# why.


def test_why_names_rules_times_and_deadlines(filled_anywhere: str) -> None:
    """Also after a restart, on both databases: all of it is read from there."""
    result = run("why", "alice", "--database", filled_anywhere, "--json", "--expire-after", "2h")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["state"], found["connections"]) == ("online", 2)
    desk, phone, ended = found["records"]
    assert [r["clientId"] for r in (desk, phone)] == ["desk", "phone"]
    assert [(s["change"], s["rule"], s["trigger"]) for s in ended["past"]] == [
        ("opened", "L1", "login"),
        ("ended", "E1", "will"),
    ]
    assert (ended["reason"], ended["counts"]) == ("lost", False)
    (due,) = desk["due"]
    assert (due["change"], due["rule"], due["at"]) == ("ended", "B2", to_iso(T0 + HOUR + 1000 + 2 * HOUR + 1))


def test_why_reads_a_pending_announcement(filled_anywhere: str) -> None:
    """A client that has not answered ends by B3."""
    fill(filled_anywhere, login("eve", "phone", "e1", T0, announce=True))
    store = Store(filled_anywhere)
    with store.transaction() as tx:
        tx.write_value("announced_at", str(T0 + 50))
    store.close()
    result = run("why", "eve", "--database", filled_anywhere, "--json", "--confirm-within", "20s")
    (due,) = json.loads(result.stdout)["records"][0]["due"]
    assert (due["rule"], due["at"]) == ("B3", to_iso(T0 + 20_050))


def test_why_in_words(filled: str) -> None:
    """One line for the state, and one for each change and deadline."""
    result = run("why", "alice", "--database", filled, "--expire-after", "2h")
    assert result.stdout.startswith("alice is online since ")
    assert "connections that count and are not idle: 2\n" in result.stdout
    assert re.search(r"\nphone \(connection a1\): ended\n.*opened by L1: a login arrived\n", result.stdout)
    assert "ended by E1: a will arrived (lost)\n" in result.stdout
    assert "ends by B2: without a sign of life\n" in result.stdout
    result = run("why", "bob", "--database", filled)
    assert "bob is idle since" in result.stdout
    assert "idle by A1: an activity message arrived\n" in result.stdout
    result = run("why", "zed", "--database", filled)
    assert "zed is offline since" in result.stdout
    assert "(logout)\n" in result.stdout


def test_why_escapes_and_refuses(filled: str) -> None:
    """Names of clients are other people's text; an unknown user is an error."""
    result = run("why", HOSTILE, "--database", filled)
    assert "\u202e" not in result.stdout
    assert "[bold]c (connection h1)" in result.stdout
    result = run("why", "nobody", "--database", filled)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "mqtt-presence: there is no user nobody\n"
