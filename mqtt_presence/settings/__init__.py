"""The settings: one definition for flags, `MQTT_PRESENCE_…` variables and TOML files (contract section 6)."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import plain_origin
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.durations import parse_duration
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.settings.data_directory import data_directory, default_database

PREFIX = "MQTT_PRESENCE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Names the TOML file, as `--config` does."""
_SHOWN_CHARACTERS = 60

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
_ORIGIN = re.compile(r"(?i:https?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_SECRET = frozenset({"broker", "client", "database", "second_client", "web_mqtt_url", "web_token"})
"""Their values are or may hold passwords: no message shows them, nor does `repr`."""
_PATHS = frozenset(
    {"ca_file", "cert_file", "client_cert_file", "client_key_file", "key_file", "password_file"}
)
"""Linux allows bytes in file names that are not UTF-8."""
_PLAIN_WORDS = {
    "greater_than_equal": "must be {ge:.12g} or more",
    "greater_than": "must be more than {gt:.12g}",
    "less_than_equal": "must be {le:.12g} at most",
    "int_parsing": "must be a whole number",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
}


def seconds(value: object) -> object:
    """Read a duration: seconds, or a number with a unit: ``500ms``, ``90s``, ``10m``, ``12h``, ``30d``."""
    if not isinstance(value, str | bool):
        return value
    return parse_duration(str(value))


def is_utf8(text: str) -> bool:
    """Return whether a text from the command line or the environment was UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _require_text(text: str, *, may_be_bytes: bool) -> None:
    if "\0" in text:
        raise ValueError("must not have a null character")
    if not (may_be_bytes or is_utf8(text)):
        raise ValueError("must be UTF-8")


def _split(value: object) -> object:
    """A variable has no lists, so it has commas."""
    return [part for part in map(str.strip, value.split(",")) if part] if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=315_360_000, allow_inf_nan=False)]
_DURATION_OPTION: TypeAdapter[float] = TypeAdapter(Duration)
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]

SourceName = Annotated[Literal["auto", "none", "mosquitto", "emqx", "nanomq"], BeforeValidator(_lower)]


class Settings(BaseSettings):
    """Every setting of every command, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    broker: str = Field(
        "mqtt://127.0.0.1:1883",
        repr=False,
        description="The broker: mqtt[s]|ws[s]://user:password@host:port. Better in the environment or in a "
        "file than on the command line, where everybody on the machine can read the password.",
    )
    database: str = Field(
        default_factory=default_database,
        repr=False,
        description="Where the records are: sqlite:///file or postgresql://user:password@host/name; "
        "default: presence.db in $XDG_DATA_HOME/mqtt-presence or ~/.local/share/mqtt-presence.",
    )
    prefix: str = Field("", description="What comes before every topic, e.g. acme/.")
    idle_threshold: Duration = Field(
        60.0, gt=0, description="How long without a heartbeat until a connection is idle."
    )
    expire_after: Duration | None = Field(
        None, description="After how long a silence a connection is ended; default: never."
    )
    grace: Duration = Field(0.0, description="How long a lost connection still counts for its user's status.")
    confirm_within: Duration = Field(
        30.0,
        description="How long clients have to log in again after the broker lost the bridge's session.",
    )
    retention: Duration | None = Field(
        None, description="How long ended connections are kept, e.g. 90d; default: for ever."
    )
    publish_private: bool = Field(
        default=False, description="Put addresses and user agents into the public status."
    )
    max_connections: Count = Field(
        1000, description="Open connections of one user at the most; 0: any number."
    )
    max_records: Count = Field(
        1000, description="New connections of one user in a minute at the most; 0: any number."
    )
    max_rate: Count = Field(
        100,
        description="Messages of one user in a second at the most, on average over a minute; 0: any number.",
    )
    max_users: Count = Field(
        1_000_000, description="Users at the most; newcomers beyond are refused; 0: any number."
    )
    source: SourceName = Field(
        "auto",
        description="What tells of addresses and of ends of connections; auto: mosquitto's log, where "
        "it can be read.",
    )
    profiles: Names = Field(
        (),
        description="Fleets of devices to follow by their own topics, e.g. tasmota; may be given several "
        "times. mqtt-presence profiles lists them.",
    )
    profile: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="A profile of one's own, or changes of a shipped one; only as a table [profile.NAME].",
    )
    keep_alive: int = Field(30, ge=5, le=65_535, description="The bridge's keep alive, seconds.")
    ca_file: Path | None = Field(
        None, description="Certificates to trust instead of the system's, PEM, for mqtts and wss."
    )
    cert_file: Path | None = Field(None, description="Our own certificate, PEM.")
    key_file: Path | None = Field(None, description="The key of cert_file, PEM.")

    client: str = Field(
        "",
        repr=False,
        description="The broker as a client comes to it: mqtt[s]|ws[s]://user:password@host:port.",
    )
    second_client: str = Field(
        "", repr=False, description="The same as another user, whom the client is to attack."
    )
    client_cert_file: Path | None = Field(None, description="The client's own certificate, PEM.")
    client_key_file: Path | None = Field(None, description="The key of client_cert_file, PEM.")

    host: str = Field("127.0.0.1", description="Where the embedded broker listens.")
    port: Port = Field(1883, description="Its TCP port; 0: any free one.")
    ws: bool = Field(default=True, description="Let browsers in too, by WebSocket.")
    ws_port: Port = Field(9001, description="Its WebSocket port; 0: any free one.")
    open: bool | None = Field(
        None,
        description="Let anyone in under the name they give, without a password; default: on loopback, "
        "unless password_file is set.",
    )
    insecure: bool = Field(default=False, description="Allow open beyond this machine.")
    password_file: Path | None = Field(
        None,
        description="Who may come in with which password (mqtt-presence passwd writes it); "
        "default, where open is off: passwords in the directory of the default database.",
    )
    operator: Names = Field(
        (), description="A user who may also read events, with addresses; may be given several times."
    )

    web: bool | None = Field(None, description="Serve the live page; default: on in up, off in run.")
    web_host: str | None = Field(None, description="Where the page listens; default: as host says.")
    web_port: Port = Field(8080, description="Its port; 0: any free one.")
    web_mqtt_url: str | None = Field(
        None,
        repr=False,
        description="The broker as browsers reach it, beside another broker: ws[s]://host:port/path; "
        "default: broker, if that is such a URL.",
    )
    web_token: str | None = Field(
        None,
        repr=False,
        description="A secret of 16 characters or more: who shows it to the page sees addresses and history. "
        "Better in the environment or in a file.",
    )
    web_origin: Names = Field(
        (),
        description="Another address at which browsers find the page, e.g. of a reverse proxy, or a page of "
        "your own that may connect: https://host; may be given several times.",
    )
    web_proxy: bool = Field(
        default=False,
        description="A reverse proxy on this machine says in X-Forwarded-For who has come to it: believe it.",
    )

    log_level: LogLevel = Field("info", description="What to log at least.")
    log_format: LogFormat = Field("text", description="How to log, on standard error.")

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object, info: ValidationInfo) -> object:
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str):
                _require_text(text, may_be_bytes=info.field_name in _PATHS or text.startswith("sqlite:"))
        return value

    @field_validator("host", "web_host")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        try:
            (value or "").encode("idna")
        except UnicodeError as error:
            raise ValueError(f"must be a host name or an address: {error.__cause__ or error}") from None
        return value

    @field_validator("broker", "client", "second_client")
    @classmethod
    def _is_broker(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "broker":
            _reported(BrokerUrl.parse, value)
        return value

    @field_validator("database")
    @classmethod
    def _is_database(cls, value: str) -> str:
        if not value and not default_database():
            return value
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:  # its message may quote the password
            raise ValueError(
                "the port must be a number (a / in a password is written %2F, an @ is %40)"
            ) from None
        if parts.scheme not in {"sqlite", "postgresql", "postgres"} or port == 0:
            raise ValueError("must be sqlite:///file or postgresql://user:password@host/name")
        return value

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        topics: Topics = _reported(Topics, value)
        return topics.prefix

    @field_validator("web_mqtt_url")
    @classmethod
    def _is_websocket(cls, value: str | None) -> str | None:
        if value is not None:
            url: BrokerUrl = _reported(BrokerUrl.parse, value)
            if not url.websockets or url.username is not None:
                raise ValueError("must be ws[s]://host:port/path, without a user: every visitor is told it")
        return value

    @field_validator("web_token")
    @classmethod
    def _is_token(cls, value: str | None) -> str | None:
        if value is not None and not _TOKEN.fullmatch(value):
            raise ValueError("must be 16 or more letters, digits and -._~+/= (openssl rand -hex 16)")
        return value

    @field_validator("web_origin")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        plain = [plain_origin(origin) for origin in value if _ORIGIN.fullmatch(origin)]
        if len(plain) < len(value) or None in plain:
            raise ValueError("must be like https://presence.example or http://host:8080, without a path")
        return tuple(origin for origin in plain if origin is not None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment; `load` puts the file after them."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings

    @property
    def passwords(self) -> Path:
        """The password file to use.

        Raises:
            ConfigError: the setting is not given, and the user has no home directory.

        """
        return self.password_file or data_directory() / "passwords"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the command line must know of a setting to make an option of it."""

    name: str
    flag: str
    kind: Literal["switch", "list", "value"]
    metavar: str
    help: str
    default: str
    """As to be shown; empty: its help says it."""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()


def _describe(name: str, field: Any) -> Setting:
    kinds = {part for part in (field.annotation, *get_args(field.annotation)) if part is not type(None)}
    kind: Literal["switch", "list", "value"] = "value"
    metavar = "TEXT"
    if bool in kinds:
        kind = "switch"
    elif get_origin(field.annotation) is tuple:
        kind, metavar = "list", "URL" if name == "web_origin" else "NAME"
    elif get_origin(field.annotation) is Literal:
        metavar = "|".join(get_args(field.annotation))
    elif name in {"broker", "client", "database", "second_client", "web_mqtt_url"}:
        metavar = "URL"
    elif Path in kinds:
        metavar = "FILE"
    elif int in kinds:
        metavar = "NUMBER"
    elif any(get_origin(part) is Annotated for part in kinds) or float in kinds:
        metavar = "DURATION"
    has_none = field.default_factory is not None or field.default is False or field.default in {None, ""}
    default = "" if has_none else _shown(field.default)
    return Setting(name, "--" + name.replace("_", "-"), kind, metavar, field.description or "", default)


def _shown(value: object) -> str:
    match value:
        case True:
            return "on"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(value)
    return str(value)


SETTINGS: Mapping[str, Setting] = {
    name: _describe(name, field) for name, field in Settings.model_fields.items()
}
"""All of them, by name."""


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        flags: what the command line says; None: it does not.
        config: a TOML file; None: the one that the variable names, if it does.

    Raises:
        ConfigError: one of them is wrong; the message names it, and shows it unless it is secret.

    """
    _refuse_unknown_variables()
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    given = {name: value for name, value in flags.items() if value is not None}
    filed = {} if config is None else _read(config)

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            flags_and_variables = super().settings_customise_sources(settings_cls, *sources, **named)
            return (*flags_and_variables, InitSettingsSource(settings_cls, filed))

    try:
        return WithFile(**given)
    except ValidationError as error:
        raise ConfigError("; ".join(_plainly(e, given, config) for e in error.errors())) from None


def duration(name: str, value: str) -> float:
    """Read a duration that is an option of one command and no setting, by the rules of the settings; seconds.

    Args:
        name: of the option.
        value: as in `seconds`.

    Raises:
        ConfigError: the value is no duration, or not from 0 to ten years.

    """
    try:
        return _DURATION_OPTION.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name}={shortened(value)}: {_message(error.errors()[0])}") from None


def text(path: Path | None) -> str | None:
    """Write a path as libraries want it."""
    return None if path is None else str(path)


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--config {config}: there is no such file") from None
    except RecursionError:
        raise ConfigError(f"--config {config}: lists are nested too deeply") from None
    except (OSError, ValueError) as error:  # what tomllib says names a line, and no value
        raise ConfigError(f"--config {config}: {error}") from None


def _refuse_unknown_variables() -> None:
    """A misspelt variable would else be a setting that is silently not set."""
    for variable in sorted(os.environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() == CONFIG_VARIABLE:
            continue
        name = variable[len(PREFIX) :].lower()
        if name not in Settings.model_fields:
            raise ConfigError(f"{variable}: there is no such setting{_perhaps(name, PREFIX, str.upper)}")


def _perhaps(name: str, before: str = "", spelled: Any = str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, 1)
    return f"; did you mean {before}{spelled(close[0])}?" if close else ""


def _plainly(error: Any, flags: Mapping[str, Any], config: Path | None) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting in {config}{_perhaps(name)}"
    shown = "" if name in _SECRET else f"={_input(error['input'])}"
    return f"{name}{shown}: {_message(error)}{_source(name, flags, config)}"


def _input(value: Any) -> str:
    if isinstance(value, str) and value:
        return shortened(value)
    try:
        return shortened(repr(value))
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "…"


def _message(error: Any) -> str:
    words = _PLAIN_WORDS.get(error["type"])
    if words is not None:
        return words.format(**error.get("ctx", {}))
    message: str = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[0].lower() + message[1:]


def _source(name: str, flags: Mapping[str, Any], config: Path | None) -> str:
    """Say where a wrong value comes from, if not from the command line that was just typed."""
    if name in flags:
        return ""
    if any(variable.upper() == PREFIX + name.upper() for variable in os.environ):
        return f" (from {PREFIX}{name.upper()})"
    return f" (from {config})"


def shortened(value: str) -> str:
    """Cut a value of absurd length, for a message."""
    return value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…"


def _reported(make: Any, value: str) -> Any:
    try:
        return make(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic collects these
