"""The settings: one definition for flags, `MQTT_PRESENCE_…` variables and TOML files (contract section 6)."""

import re
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mqtt_presence.bridge import BridgeConfig
from mqtt_presence.broker_url import BrokerUrl
from mqtt_presence.errors import ConfigError
from mqtt_presence.link import LinkConfig
from mqtt_presence.model import RuleSettings
from mqtt_presence.topics import Topics

PREFIX = "MQTT_PRESENCE_"
_UNITS_S = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def seconds(value: object) -> object:
    """Read a duration: seconds, or a number with a unit: ``500ms``, ``90s``, ``10m``, ``12h``, ``30d``."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError("must be a duration such as 90, 90s, 10m, 12h or 30d")
    return float(found[1]) * _UNITS_S[found[2] or ""]


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=315_360_000, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    broker: str = Field(
        "mqtt://127.0.0.1:1883",
        description="The broker: mqtt[s]|ws[s]://user:password@host:port. Better in the environment or in a "
        "file than on the command line, where everybody on the machine can read the password.",
    )
    database: str = Field(
        f"sqlite:///{user_data_path('mqtt-presence') / 'presence.db'}",
        description="Where the records are: sqlite:///file or postgresql://user:password@host/name.",
    )
    prefix: str = Field("", description="What comes before every topic, e.g. acme/.")
    idle_threshold: Duration = Field(
        60.0, gt=0, description="Seconds without a heartbeat after which a connection is idle."
    )
    expire_after: Duration | None = Field(
        None, description="Seconds of silence after which a connection is ended; default: never."
    )
    grace: Duration = Field(
        0.0, description="Seconds that a lost connection still counts for its user's status."
    )
    confirm_within: Duration = Field(
        30.0,
        description="Seconds that clients have to log in again after the broker lost the bridge's session.",
    )
    retention: Duration | None = Field(
        None, description="How long ended connections are kept, e.g. 90d; default: for ever."
    )
    publish_private: bool = Field(
        default=False, description="Put addresses and user agents into the public status."
    )
    keep_alive: int = Field(30, ge=5, le=65_535, description="The bridge's keep alive, seconds.")
    ca_file: Path | None = Field(
        None, description="Certificates to trust instead of the system's, PEM, for mqtts and wss."
    )
    cert_file: Path | None = Field(None, description="The bridge's own certificate, PEM.")
    key_file: Path | None = Field(None, description="The key of cert_file, PEM.")

    @field_validator("broker")
    @classmethod
    def _is_broker(cls, value: str) -> str:
        _reported(BrokerUrl.parse, value)
        return value

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        topics: Topics = _reported(Topics, value)
        return topics.prefix

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: in this order of precedence."""
        del dotenv_settings, file_secret_settings
        toml = cls.model_config.get("toml_file")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls)) if toml else sources

    def bridge(self) -> BridgeConfig:
        """Make the bridge's configuration."""
        return BridgeConfig(
            link=self.link,
            topics=Topics(self.prefix),
            rules=RuleSettings(
                idle_threshold_ms=_millis(self.idle_threshold),
                expire_after_ms=_millis(self.expire_after) if self.expire_after else None,
                grace_ms=_millis(self.grace),
            ),
            confirm_within_ms=_millis(self.confirm_within),
            retention_ms=_millis(self.retention) if self.retention else None,
            publish_private=self.publish_private,
        )

    def link(self, client_id: str) -> LinkConfig:
        """Make the configuration of the bridge's connection."""
        return LinkConfig(
            url=BrokerUrl.parse(self.broker),
            client_id=client_id,
            keep_alive_s=self.keep_alive,
            ca_file=_text(self.ca_file),
            cert_file=_text(self.cert_file),
            key_file=_text(self.key_file),
        )


def load(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        flags: what the command line says.
        config: a TOML file.

    Raises:
        ConfigError: one of them is wrong; the message names it, and shows it unless it is secret.

    """
    if config is not None and not config.is_file():
        raise ConfigError(f"--config {config}: there is no such file")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return FromFile(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("; ".join(map(_plainly, error.errors()))) from None
    except ValueError as error:  # what tomllib says
        raise ConfigError(f"--config {config}: {error}") from None


def _plainly(error: Any) -> str:
    name = ".".join(map(str, error["loc"])) or "settings"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    shown = "" if name in {"broker", "database"} else f"={error['input']!r}"  # these hold passwords
    return f"{name}{shown}: {message[0].lower()}{message[1:]}"


def _reported(make: Any, value: str) -> Any:
    try:
        return make(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic collects these


def _millis(duration_s: float) -> int:
    return round(duration_s * 1000)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
