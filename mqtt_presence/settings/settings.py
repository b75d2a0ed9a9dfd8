"""The model of all settings: names, types, defaults, help texts, and the checks of their values."""

import re
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import plain_origin
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.settings.data_directory import data_directory, default_database
from mqtt_presence.settings.values import (
    Count,
    Duration,
    ImplicitMode,
    LogFormat,
    LogLevel,
    Names,
    Port,
    SourceName,
    require_text,
)

PREFIX = "MQTT_PRESENCE_"
"""The beginning of the name of each environment variable."""

_TOKEN = re.compile(r"(?:(?:status|operator):)?[A-Za-z0-9._~+/=-]{16,}")
_ORIGIN = re.compile(r"(?i:https?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PEOPLE = {"idle_threshold": 300.0, "grace": 15.0}
"""The defaults with `people`, in seconds."""
_PATHS = frozenset(
    {"ca_file", "cert_file", "client_cert_file", "client_key_file", "key_file", "password_file"}
)
"""Settings that may hold any bytes: Linux allows file names that are not UTF-8."""


class Settings(BaseSettings):
    """All settings of all commands, with defaults and help texts. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    broker: str = Field(
        "mqtt://127.0.0.1:1883",
        repr=False,
        description="The broker's URL: mqtt[s]|ws[s]://user:password@host:port; of a cluster, those of its "
        "nodes, separated by commas, with user and password in the first. Put passwords into the environment "
        "or a file: on the command line, every user of this machine can read them.",
    )
    database: str = Field(
        default_factory=default_database,
        repr=False,
        description="The database's URL: sqlite:///file or postgresql://user:password@host/name; "
        "default: presence.db in $XDG_DATA_HOME/mqtt-presence or ~/.local/share/mqtt-presence.",
    )
    seats: int = Field(
        1,
        ge=1,
        le=64,
        description="How many processes share the messages, each with a seat of its own; more processes "
        "wait as standbys. More than 1 needs PostgreSQL and a broker with shared subscriptions.",
    )
    node: str = Field(
        "", description="The name of this process for operators; default: its process id and machine."
    )
    prefix: str = Field("", description="The beginning of every topic, e.g. acme/.")
    seat_inputs: str = Field(
        "",
        description="Where the broker moves the clients' messages for each seat of the bridge, by a rule of "
        "its own, e.g. shard/{seat}/; default: it moves none.",
    )
    people: bool = Field(
        default=False,
        description="Defaults for people instead of devices: idle_threshold is 5m, grace is 15s.",
    )
    idle_threshold: Duration = Field(
        60.0, gt=0, description="The time without a heartbeat after which a connection is idle."
    )
    expire_after: Duration | None = Field(
        None, description="The silence after which the bridge ends a connection; default: never."
    )
    grace: Duration = Field(0.0, description="How long a lost connection still counts for its user's status.")
    confirm_within: Duration = Field(
        30.0,
        description="The time clients have to log in again after the broker lost the bridge's session.",
    )
    retention: Duration | None = Field(
        None, description="How long to keep ended connections, e.g. 90d; default: for ever."
    )
    publish_private: bool = Field(
        default=False, description="Publish addresses and user agents in the public status."
    )
    max_connections: Count = Field(
        1000, description="Maximum number of open connections of a user; 0: no limit."
    )
    max_records: Count = Field(
        1000, description="Maximum number of new connections of a user in a minute; 0: no limit."
    )
    max_rate: Count = Field(
        100,
        description="Maximum number of messages of a user in a second, on average over a minute; "
        "0: no limit.",
    )
    max_users: Count = Field(
        1_000_000,
        description="Maximum number of users; messages of new users beyond it are refused; 0: no limit.",
    )
    source: SourceName = Field(
        "auto",
        description="The broker whose reports give addresses and ends of connections; auto: read mosquitto's "
        "log if the broker allows it.",
    )
    implicit: ImplicitMode = Field(
        "off",
        description="Count clients without presence messages, by the broker's reports: username: under "
        "their user name; client_id: under their client id; off: do not.",
    )
    implicit_match: str | None = Field(
        None, description="A regular expression: implicit counts only client ids that match it as a whole."
    )
    implicit_after: Duration = Field(
        1.0, description="The time that a client has to log in before implicit counts it."
    )
    implicit_keep: Duration = Field(
        86_400.0,
        description="How long implicit keeps a connection whose end the broker may have reported in vain.",
    )
    implicit_list: str | None = Field(
        None,
        repr=False,
        description="Asked for the connected clients after reports were lost: EMQX's HTTP API, "
        "http[s]://key:secret@host:port (put it into the environment or a file), or dynamic-security: "
        "mosquitto's plugin, from 2.1 on.",
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
    homeassistant: bool = Field(
        default=False,
        description="Show each user as a device of Home Assistant, by a retained discovery message.",
    )
    homeassistant_prefix: str = Field(
        "homeassistant", description="The discovery prefix that is set in Home Assistant."
    )
    homeassistant_match: str | None = Field(
        None, description="Only users whose names match, e.g. 'family-*'; default: all."
    )
    notify: tuple[dict[str, Any], ...] = Field(
        (), repr=False, description="Receivers of notifications; only as tables [[notify]]."
    )
    notify_keep: Duration = Field(
        604_800.0, gt=0, description="How long notifications wait for a receiver that is away."
    )
    notify_private: bool = Field(
        default=False, description="Send notifications to addresses that are not public too."
    )
    keep_alive: int = Field(
        30, ge=5, le=65_535, description="The keep alive of the bridge's connection to the broker, seconds."
    )
    ca_file: Path | None = Field(
        None,
        description="The certificate authorities to trust instead of the system's (PEM), for mqtts and wss.",
    )
    cert_file: Path | None = Field(None, description="The certificate of this program (PEM).")
    key_file: Path | None = Field(None, description="The private key of cert_file (PEM).")

    client: str = Field(
        "",
        repr=False,
        description="The broker's URL for an ordinary client: mqtt[s]|ws[s]://user:password@host:port.",
    )
    second_client: str = Field(
        "", repr=False, description="The broker's URL for another user, whose topics the client tries to use."
    )
    client_cert_file: Path | None = Field(None, description="The client's certificate (PEM).")
    client_key_file: Path | None = Field(None, description="The private key of client_cert_file (PEM).")

    host: str = Field("127.0.0.1", description="The address on which the embedded broker listens.")
    port: Port = Field(1883, description="The embedded broker's TCP port; 0: any free port.")
    ws: bool = Field(default=True, description="Accept WebSocket connections too, for browsers.")
    ws_port: Port = Field(9001, description="The embedded broker's WebSocket port; 0: any free port.")
    open: bool | None = Field(
        None,
        description="Accept any user name without a password; default: on for loopback addresses, "
        "unless password_file is set.",
    )
    insecure: bool = Field(
        default=False, description="Allow open on addresses that other machines can reach."
    )
    password_file: Path | None = Field(
        None,
        description="The user names and password hashes that mqtt-presence passwd writes; "
        "default if open is off: passwords in the data directory.",
    )
    operator: Names = Field((), description="A user who may also read events, with addresses; repeatable.")

    web: bool | None = Field(None, description="Serve the live page; default: on for up, off for run.")
    web_host: str | None = Field(
        None, description="The address on which the page is served; default: the value of host."
    )
    web_port: Port = Field(8080, description="The port of the page; 0: any free port.")
    web_mqtt_url: str | None = Field(
        None,
        repr=False,
        description="The broker's WebSocket URL for browsers, for run: ws[s]://host:port/path; "
        "default: broker, if its URL is ws or wss.",
    )
    web_token: Names = Field(
        (),
        repr=False,
        description="A secret of at least 16 characters: visitors with this token see addresses and history; "
        "with status: before it, statuses only. Put it into the environment or a file; repeatable.",
    )
    web_origin: Names = Field(
        (),
        description="Another origin allowed to use the page's server, e.g. of a proxy or your own page: "
        "https://host; repeatable.",
    )
    web_cors: Names = Field(
        (),
        description="An origin whose pages' scripts may call the HTTP API, with credentials of their own: "
        "https://host; repeatable. Those of web_origin may, too.",
    )
    web_proxy: bool = Field(
        default=False,
        description="Trust X-Forwarded-For from a reverse proxy on this machine.",
    )

    web_frame_ancestors: Names = Field(
        (),
        description="A page that may show this one in a frame, e.g. a dashboard: https://host; repeatable.",
    )

    monitor_host: str = Field(
        "127.0.0.1", description="The address of metrics and health, if monitor_port is set."
    )
    monitor_port: Port | None = Field(
        None,
        description="A port for metrics and health; 0: any free port; default: the page's port, and none "
        "without a page.",
    )

    log_level: LogLevel = Field("info", description="The lowest level of log lines to write.")
    log_format: LogFormat = Field("text", description="The format of log lines, on standard error.")

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object, info: ValidationInfo) -> object:
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str):
                require_text(text, may_be_bytes=info.field_name in _PATHS or text.startswith("sqlite:"))
        return value

    @field_validator("notify", mode="before")
    @classmethod
    def _are_tables(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or not all(isinstance(table, dict) for table in value):
            raise ValueError("must be tables of the settings file, each under [[notify]]")
        return value

    @field_validator("host", "web_host", "monitor_host")
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
        if info.field_name == "broker":
            _checked(parse_nodes, value)
        elif value:
            _checked(BrokerUrl.parse, value)
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
        topics: Topics = _checked(Topics, value)
        return topics.prefix

    @field_validator("seat_inputs")
    @classmethod
    def _are_seat_inputs(cls, value: str, info: ValidationInfo) -> str:
        _checked(partial(Topics, info.data.get("prefix", "")), value)
        return value

    @field_validator("homeassistant_prefix")
    @classmethod
    def _is_discovery_prefix(cls, value: str) -> str:
        if not value.strip("/"):
            raise ValueError("must be one or more topic levels, e.g. homeassistant")
        topics: Topics = _checked(Topics, value)
        return topics.prefix.removesuffix("/")

    @field_validator("implicit_match")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"must be a regular expression: {error}") from None
        return value or None

    @field_validator("web_mqtt_url")
    @classmethod
    def _is_websocket(cls, value: str | None) -> str | None:
        if value is not None:
            url: BrokerUrl = _checked(BrokerUrl.parse, value)
            if not url.websockets or url.username is not None:
                raise ValueError("must be ws[s]://host:port/path, without a user: every visitor can read it")
        return value

    @field_validator("web_token")
    @classmethod
    def _are_tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_TOKEN.fullmatch, value)):
            raise ValueError(
                "must be 16 or more letters, digits and -._~+/= (openssl rand -hex 16), with status: or"
                " operator: before them for a scope"
            )
        return value

    @field_validator("web_origin", "web_cors", "web_frame_ancestors")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        plain = [plain_origin(origin) for origin in value if _ORIGIN.fullmatch(origin)]
        if len(plain) < len(value) or None in plain:
            raise ValueError("must be like https://presence.example or http://host:8080, without a path")
        return tuple(origin for origin in plain if origin is not None)

    @model_validator(mode="after")
    def _with_defaults_for_people(self) -> Self:
        if self.people:
            # The model is frozen for its users; these fields have not been given.
            self.__dict__.update({k: v for k, v in _PEOPLE.items() if k not in self.model_fields_set})
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence: flags, then the environment; `load` appends the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings

    @property
    def passwords(self) -> Path:
        """The path of the password file.

        Raises:
            ConfigError: the setting is missing, and the user has no home directory.

        """
        return self.password_file or data_directory() / "passwords"


def _checked(make: Any, value: str) -> Any:
    try:
        return make(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic collects only ValueErrors
