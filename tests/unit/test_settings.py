"""The settings: their sources, the precedence of sources, and the errors of wrong values."""

from pathlib import Path

import pytest

from mqtt_presence.bridge.config import Limits
from mqtt_presence.cli.bridge_config import bridge_config
from mqtt_presence.cli.up import _broker_config
from mqtt_presence.errors import ConfigError
from mqtt_presence.settings import PREFIX, SETTINGS, Settings, load


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def toml(directory: Path, text: str) -> Path:
    path = directory / "presence.toml"
    path.write_text(text)
    return path


def test_flag_beats_variable_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags, environment, file, default: the first value found counts."""
    config = toml(tmp_path, "grace = 3\nretention = '90d'\nkeep_alive = 7\n")
    monkeypatch.setenv("MQTT_PRESENCE_GRACE", "2m")
    monkeypatch.setenv("MQTT_PRESENCE_KEEP_ALIVE", "8")
    settings = load({"keep_alive": "9", "prefix": None}, config)
    assert (settings.keep_alive, settings.grace, settings.retention) == (9, 120, 90 * 86_400)
    assert settings.expire_after is None


def test_variable_can_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without flags, as in a container, an environment variable names the file."""
    monkeypatch.setenv("MQTT_PRESENCE_CONFIG", str(toml(tmp_path, "grace = '500ms'")))
    assert load({}).grace == 0.5


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CA_FILE=` in an environment file means no file, not the current directory."""
    monkeypatch.setenv("MQTT_PRESENCE_CA_FILE", "")
    assert load({}).ca_file is None


def test_operators_are_listed_in_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated flag, a variable with commas, a list in the file."""
    config = toml(tmp_path, "operator = ['carol']")
    assert load({}, config).operator == ("carol",)
    monkeypatch.setenv("MQTT_PRESENCE_OPERATOR", "alice, bob")
    assert load({}, config).operator == ("alice", "bob")
    assert load({"operator": ["dave"]}, config).operator == ("dave",)


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_people_changes_two_defaults(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With people, idle comes after 5 minutes and a lost connection counts for 15 s; the rules get both."""
    assert (load({}).idle_threshold, load({}).grace) == (60, 0)
    if source == "variable":
        monkeypatch.setenv("MQTT_PRESENCE_PEOPLE", "yes")
    config = toml(tmp_path, "people = true" if source == "file" else "")
    settings = load({"people": True} if source == "flag" else {}, config)
    assert (settings.idle_threshold, settings.grace) == (300, 15)
    rules = bridge_config(settings).rules
    assert (rules.idle_threshold_ms, rules.grace_ms) == (300_000, 15_000)


def test_people_leaves_given_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from any source counts, also one that is equal to the usual default."""
    assert load({}, toml(tmp_path, "people = true\nidle_threshold = 60")).idle_threshold == 60
    monkeypatch.setenv("MQTT_PRESENCE_GRACE", "0")
    settings = load({"people": True, "idle_threshold": "90s"})
    assert (settings.idle_threshold, settings.grace) == (90, 0)
    assert load({"people": False}, toml(tmp_path, "people = true")).idle_threshold == 60


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"grace": "-1"}, "grace=-1: must be 0 or more"),
        ({"grace": "soon"}, "grace=soon: must be a duration such as 90, 90s, 10m, 12h or 30d"),
        ({"grace": "nan"}, "grace=nan: must be a duration such as 90, 90s, 10m, 12h or 30d"),
        ({"idle_threshold": "0"}, "idle_threshold=0.0: must be more than 0"),
        ({"keep_alive": "x"}, "keep_alive=x: must be a whole number"),
        ({"port": "65536"}, "port=65536: must be 65535 at most"),
        ({"log_level": "loud"}, "log_level=loud: must be 'debug', 'info', 'warning' or 'error'"),
        ({"publish_private": "perhaps"}, "publish_private=perhaps: must be true or false"),
        (
            {"broker": "http://host"},
            "broker: the broker URL must begin with mqtt://, mqtts://, ws://, wss://",
        ),
        ({"database": "mysql://host/name"}, "database: must be sqlite:///file or postgresql://"),
        ({"prefix": "$SYS/"}, "prefix=$SYS/: "),
        ({"web_port": "x"}, "web_port=x: must be a whole number"),
        ({"web_origin": ["https://a/b"]}, "web_origin="),
        ({"web_origin": ["presence.example"]}, "web_origin="),
        ({"web_origin": ["https://*.example"]}, "web_origin="),
        ({"web_mqtt_url": "mqtt://host"}, "web_mqtt_url: must be ws[s]://host:port/path, without a user"),
        ({"web_mqtt_url": "http://host"}, "web_mqtt_url: the broker URL must begin with"),
        ({"web_token": "too short"}, "web_token: must be 16 or more letters, digits"),
        ({"prefix": "a/+/"}, "prefix=a/+/: "),
    ],
)
def test_wrong_flag_is_named_with_its_value(flags: dict[str, str], message: str) -> None:
    """The message names the setting, its value and the remedy."""
    with pytest.raises(ConfigError) as caught:
        load(flags)
    assert str(caught.value).startswith(message)


def test_wrong_value_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value from a file or the environment is hard to find without its source."""
    config = toml(tmp_path, "grace = -3")
    with pytest.raises(ConfigError, match=rf"grace=-3: must be 0 or more \(from {config}\)"):
        load({}, config)
    monkeypatch.setenv("MQTT_PRESENCE_GRACE", "x")
    with pytest.raises(ConfigError, match=r"grace=x: .* \(from MQTT_PRESENCE_GRACE\)"):
        load({}, config)


def test_all_wrong_settings_are_named_at_once() -> None:
    """All wrong settings are named in one run."""
    with pytest.raises(ConfigError, match=r"grace=-1: .*; keep_alive=1: must be 5 or more"):
        load({"grace": "-1", "keep_alive": "1"})


def test_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would otherwise be ignored silently."""
    monkeypatch.setenv("MQTT_PRESENCE_GRCE", "5")
    with pytest.raises(ConfigError, match=r"MQTT_PRESENCE_GRCE: .*did you mean MQTT_PRESENCE_GRACE\?"):
        load({})


def test_unknown_key_of_file_is_refused(tmp_path: Path) -> None:
    """Also a misspelt key or a table."""
    config = toml(tmp_path, "idle-threshold = 5")
    with pytest.raises(
        ConfigError, match=r"idle-threshold: there is no such setting in .*mean idle_threshold\?"
    ):
        load({}, config)


@pytest.mark.parametrize("text", ["grace = ", "\xff"])
def test_broken_file_is_named(tmp_path: Path, text: str) -> None:
    """A file that is not TOML, or not text, is named."""
    path = tmp_path / "presence.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"^{path}: "):
        load({}, path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load({}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    "flags",
    [
        {"broker": "mqtt://bridge:s3cr/et@host"},
        {"broker": "http://bridge:s3cret@host"},
        {"broker": "mqtt://bridge:s3cret@host:99999"},
        {"broker": "mqtt://bridge:s3cret@[host"},
        {"broker": "mqtt://bridge:s3cret@host/path"},
        {"database": "postgresql://presence:s3cr/et@host/name"},
        {"database": "postgresql://presence:s3cret@[host/name"},
        {"database": "mysql://presence:s3cret@host/name"},
        {"web_token": "s3cret"},
        {"web_token": "s3cret s3cret s3cret"},
        {"web_mqtt_url": "ws://bridge:s3cret@host"},
    ],
)
def test_password_is_in_no_message(flags: dict[str, str]) -> None:
    """Messages end up in logs and tickets, so they have no passwords."""
    with pytest.raises(ConfigError) as caught:
        load(flags)
    assert "s3cr" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_setting_is_described() -> None:
    """Help, flag and variable come from the same definition."""
    assert SETTINGS.keys() == Settings.model_fields.keys()
    assert all(setting.help for setting in SETTINGS.values())
    assert SETTINGS["idle_threshold"].flag == "--idle-threshold"
    assert SETTINGS["idle_threshold"].variable == "MQTT_PRESENCE_IDLE_THRESHOLD"
    assert (SETTINGS["idle_threshold"].metavar, SETTINGS["idle_threshold"].default) == ("DURATION", "60")
    assert (SETTINGS["grace"].default, SETTINGS["retention"].metavar) == ("0", "DURATION")


def test_limits_reach_bridge_and_broker() -> None:
    """Limits exist by default; 0 means no limit."""
    some, none = (
        load({}),
        load(dict.fromkeys(("max_connections", "max_records", "max_rate", "max_users"), "0")),
    )
    assert bridge_config(some).rules.max_connections == _broker_config(some, "x").max_connections == 1000
    assert bridge_config(some).limits == Limits(records=1000, rate=100, users=1_000_000)
    assert bridge_config(none).rules.max_connections is _broker_config(none, "x").max_connections is None
    assert bridge_config(none).limits == Limits()


def test_bridge_gets_milliseconds() -> None:
    """Settings are in seconds, the bridge counts milliseconds."""
    config = bridge_config(
        load({"idle_threshold": "1m", "grace": "1.5", "expire_after": "1h", "retention": "1d"})
    )
    assert (config.rules.idle_threshold_ms, config.rules.grace_ms) == (60_000, 1500)
    assert (config.rules.expire_after_ms, config.retention_ms) == (3_600_000, 86_400_000)


def test_secret_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with _FILE names a file with the value; it counts more than the settings file, less than a flag."""
    secret = tmp_path / "url"
    secret.write_text("mqtt://bridge:s3cret@inside\n")
    config = tmp_path / "settings.toml"
    config.write_text('broker = "mqtt://file"\n')
    monkeypatch.setenv("MQTT_PRESENCE_BROKER_FILE", str(secret))
    assert load({}, config).broker == "mqtt://bridge:s3cret@inside"
    assert load({"broker": "mqtt://flag"}, config).broker == "mqtt://flag"


def test_secret_in_a_file_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, both forms at once, a wrong value: each error names the variable, and shows no secret."""
    monkeypatch.setenv("MQTT_PRESENCE_BROKER_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^MQTT_PRESENCE_BROKER_FILE: .*No such file"):
        load({})
    (tmp_path / "none").write_text("http://s3cret")
    with pytest.raises(ConfigError, match=r"from MQTT_PRESENCE_BROKER_FILE") as wrong:
        load({})
    assert "s3cret" not in str(wrong.value)
    monkeypatch.setenv("MQTT_PRESENCE_BROKER", "mqtt://x")
    with pytest.raises(ConfigError, match="are both set"):
        load({})
    monkeypatch.delenv("MQTT_PRESENCE_BROKER_FILE")
    monkeypatch.setenv("MQTT_PRESENCE_GRACE_FILE", "x")
    with pytest.raises(ConfigError, match="no such setting"):
        load({})
