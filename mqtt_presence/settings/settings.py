"""The model of all settings: names, types, defaults, help texts, and the checks of their values."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import plain_origin
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.settings.data_directory import data_directory, default_database
from mqtt_presence.settings.values import (
    Count,
    Duration,
    LogFormat,
    LogLevel,
    Names,
    Port,
    SourceName,
    require_text,
)

PREFIX = "MQTT_PRESENCE_"
"""The beginning of the name of each environment variable."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
_ORIGIN = re.compile(r"(?i:https?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PATHS = frozenset(
    {"ca_file", "cert_file", "client_cert_file", "client_key_file", "key_file", "password_file"}
)
"""Settings that may hold any bytes: Linux allows file names that are not UTF-8."""


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
                require_text(text, may_be_bytes=info.field_name in _PATHS or text.startswith("sqlite:"))
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

    @field_validator("web_mqtt_url")
    @classmethod
    def _is_websocket(cls, value: str | None) -> str | None:
        if value is not None:
            url: BrokerUrl = _checked(BrokerUrl.parse, value)
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


def _checked(make: Any, value: str) -> Any:
    try:
        return make(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic collects these
