"""``mqtt-presence check``: test the broker's behaviour for presence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.padding import Padding
from rich.status import Status

from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.adapters.devices.profile_files import load_profile, shipped_names
from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import broker_url
from mqtt_presence.cli.output import Cell, cell, console, live_console, print_error, print_json, print_table
from mqtt_presence.cli.setting_options import FAILED, TLS, WRONG_SETTING, with_settings
from mqtt_presence.cli.signals import on_end_signals
from mqtt_presence.client.connect_arguments import make_endpoint
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import Topics, require_name
from mqtt_presence.settings import Settings, path_text
from mqtt_presence.tools.check import runner
from mqtt_presence.tools.check.config import CheckConfig, Node, client_at
from mqtt_presence.tools.check.findings import Finding, Verdict, any_failed
from mqtt_presence.tools.check.known_brokers import kinds
from mqtt_presence.tools.check.poll_loop import InterruptedCheckError
from mqtt_presence.tools.check.probe_client import Credentials
from mqtt_presence.tools.check.prober import Prober

INTERRUPTED = 130
_PROFILES = "profiles"
_INDENT = (0, 0, 0, 2)
_QUEUE = 5000
_MAX_QUEUE = 60_000
_STYLES = {
    Verdict.PASS: "green",
    Verdict.NOTE: "bright_black",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "bold red",
}


_CLIENT_TLS = ("client_cert_file", "client_key_file")


@with_settings(
    "broker", "client", "second_client", "database", "seats", "prefix", "seat_inputs", *TLS, *_CLIENT_TLS
)
def command(
    settings: Settings,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="With --profiles: the profiles to test; default: those of the settings, else all.",
            show_default=False,
        ),
    ] = None,
    *,
    with_profiles: Annotated[
        bool,
        typer.Option("--profiles", help="Test also who may write the topics of devices (device profiles)."),
    ] = False,
    websocket: Annotated[
        str | None,
        typer.Option(
            "--websocket",
            help="The broker's URL for browsers: ws[s]://host:port/path; default user: that of --client.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help=f"Run only this check; repeatable: {', '.join((*runner.NAMES, _PROFILES))}.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            "--queue",
            help="The number of messages that the broker must queue for an absent bridge. Given explicitly, "
            "this check also runs if there is a bridge on this broker, whose queue fills up too. "
            f"[default: {_QUEUE}]",
            metavar="NUMBER",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="The kind of broker, for fitting advice; default: recognised if possible.",
            metavar="|".join(kinds()),
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each check.")
    ] = False,
) -> None:
    """Test whether a broker does everything that presence needs.

    The check connects as the bridge's user (--broker) and as a client (--client), with random client ids.
    Bridges refuse its messages under presence/, so that records, events and statuses stay unchanged; a
    running bridge counts and logs the refusals. If bridge/state shows that the broker has a bridge, the check
    fills the broker's queues only with --queue. The check publishes and clears one retained status of an
    invented user, and ends its sessions, also after SIGINT, SIGTERM and SIGHUP. After kill -9, an MQTT 5
    broker forgets both within two minutes. A database that is given by --database, a variable or the
    settings file is only read.

    Exit codes: 0 no check failed (there may be warnings); 1 a check failed; 2 a setting is wrong, or the
    broker cannot be reached, goes away, or refuses one of the users; 130 interrupted.
    """
    logs.errors_only()
    if names and not with_profiles:
        raise ConfigError(f"check {names[0]}: names of profiles need --profiles")
    only = only or []
    with_profiles = with_profiles or _PROFILES in only
    chosen = [name for name in only if name != _PROFILES]
    is_cluster = len(parse_nodes(settings.broker)) > 1
    probes = () if only and not chosen else runner.choose(chosen, is_cluster=is_cluster)
    if kind is not None and kind not in kinds():
        raise ConfigError(f"kind={kind} must be one of {', '.join(kinds())}")
    profiles = _profiles(settings, names or []) if with_profiles else ()
    prober = Prober(_config(settings, websocket, queue, profiles))
    with on_end_signals(prober.interrupt), _progress() as show_progress:
        code = _check(prober, probes, kind, _JsonFindings() if as_json else _Table(), show_progress)
    for leftover in prober.leftovers:
        print_error(f"left behind, because the broker did not allow the check to clear it: {leftover}")
    if code:
        raise typer.Exit(code)


class _JsonFindings:
    """Prints findings as JSON, one a line."""

    def show(self, finding: Finding) -> None:
        print_json(msgspec.json.encode({"check": finding.name, **_fields(finding)}))

    def end(self) -> None:
        pass


def _fields(finding: Finding) -> dict[str, str]:
    return {
        "verdict": finding.verdict.value,
        "evidence": finding.evidence,
        "consequence": finding.consequence,
        "remedy": finding.remedy,
    }


class _Table:
    """Prints findings as a table, and below it their consequences and remedies."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def show(self, finding: Finding) -> None:
        self._findings.append(finding)

    def end(self) -> None:
        print_table(
            ("", "CHECK", "SEEN"),
            (
                (Cell(f.verdict.value, _STYLES[f.verdict]), Cell(f.name), Cell(f.evidence))
                for f in self._findings
            ),
        )
        on = console()
        for finding in self._findings:
            if finding.consequence or finding.remedy:
                self._explain(on, finding)
        counts = {v: sum(f.verdict is v for f in self._findings) for v in Verdict}
        on.print("\n" + ", ".join(f"{n} {v.value}" for v, n in counts.items() if n), soft_wrap=True)

    def _explain(self, on: Console, finding: Finding) -> None:
        on.print()
        on.print(cell(f"{finding.verdict.value} {finding.name}", _STYLES[finding.verdict]))
        if finding.consequence:
            on.print(Padding(cell(f"so: {finding.consequence}"), _INDENT, expand=False))
        if finding.remedy:
            on.print(Padding(cell(f"do: {finding.remedy}"), _INDENT, expand=False))


def _check(
    prober: Prober,
    probes: tuple[runner.Probe, ...],
    kind: str | None,
    shown: _JsonFindings | _Table,
    show_progress: Callable[[str], None],
) -> int:
    findings = []
    try:
        with prober:
            for finding in runner.run(prober, probes, kind=kind, on_begin=show_progress):
                findings.append(finding)
                shown.show(finding)
            show_progress("clearing up")
    except InterruptedCheckError:
        show_progress("")
        shown.end()
        print_error("interrupted")
        return INTERRUPTED
    except BrokerError as error:
        show_progress("")
        if findings:
            shown.end()
        print_error(str(error))
        return WRONG_SETTING
    show_progress("")
    shown.end()
    return FAILED if any_failed(findings) else 0


def _profiles(settings: Settings, names: list[str]) -> tuple[Profile, ...]:
    """Return the profiles with these names, else those of the settings, else all.

    Raises:
        ConfigError: a profile is wrong, or there is none with a name.

    """
    known = dict.fromkeys((*shipped_names(), *settings.profile))
    for name in names:
        if name not in known:
            raise ConfigError(f"check --profiles {name}: there is no such profile")
    used = names or dict.fromkeys((*settings.profiles, *settings.profile)) or known
    return tuple(load_profile(name, settings.profile, Topics(settings.prefix)) for name in used)


def _config(
    settings: Settings, websocket: str | None, queue: int | None, profiles: tuple[Profile, ...]
) -> CheckConfig:
    if not settings.client:
        raise ConfigError(
            "client is not set: give the URL of an ordinary client, mqtt://user:password@host:port"
        )
    if queue is not None and not 1 <= queue <= _MAX_QUEUE:
        raise ConfigError(f"queue={queue} must be 1 to {_MAX_QUEUE}")
    maker = _CredentialsMaker(settings)
    config = CheckConfig(
        bridge=maker.credentials("broker", broker_url(settings), settings.cert_file, settings.key_file),
        client=maker.client("client", settings.client),
        nodes=maker.nodes(),
        second=maker.client("second_client", settings.second_client) if settings.second_client else None,
        websocket=None if websocket is None else maker.websocket(websocket),
        topics=Topics(settings.prefix, settings.seat_inputs),
        queue=_QUEUE if queue is None else queue,
        may_overflow=queue is not None,
        profiles=profiles,
        seats=settings.seats,
        database=settings.database if "database" in settings.model_fields_set else None,
    )
    maker.refuse_unused_files()
    if config.user == config.bridge.url.username:
        raise ConfigError(f"client: must be another user than the bridge's, {config.user}")
    if config.second is not None and config.second.url.username == config.user:
        raise ConfigError(f"second_client: must be another user than client, {config.user}")
    return config


class _CredentialsMaker:
    """Makes credentials from URLs; certificates are used only for encrypted URLs.

    Args:
        settings: the certificate files.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._any_tls = False

    def credentials(
        self, name: str, url: str | BrokerUrl, cert_file: Path | None, key_file: Path | None
    ) -> Credentials:
        try:
            address = BrokerUrl.parse(url) if isinstance(url, str) else url
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        self._any_tls = self._any_tls or address.tls
        endpoint = make_endpoint(
            address,
            keep_alive=self._settings.keep_alive,
            ca_file=path_text(self._settings.ca_file) if address.tls else None,
            cert_file=path_text(cert_file) if address.tls else None,
            key_file=path_text(key_file) if address.tls else None,
        )
        return Credentials(endpoint.url, endpoint.tls, has_certificate=address.tls and cert_file is not None)

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes of a cluster; none of a single broker."""
        settings = self._settings
        urls = parse_nodes(settings.broker)
        if len(urls) < 2:
            return ()
        client = BrokerUrl.parse(settings.client)
        return tuple(
            Node(
                f"{url.host}:{url.port}",
                self.credentials("broker", url, settings.cert_file, settings.key_file),
                self.client("client", client_at(url, client, urls)),
            )
            for url in urls
        )

    def client(self, name: str, url: str | BrokerUrl) -> Credentials:
        made = self.credentials(name, url, self._settings.client_cert_file, self._settings.client_key_file)
        require_name(f"the user in {name}", made.url.username or "")
        return made

    def websocket(self, url: str) -> Credentials:
        address = BrokerUrl.parse(url)
        if not address.websockets:
            raise ConfigError(f"websocket={address} must begin with ws:// or wss://")
        if address.username is None:
            client = BrokerUrl.parse(self._settings.client)
            address = replace(address, username=client.username, password=client.password)
        return self.credentials(
            "websocket", address, self._settings.client_cert_file, self._settings.client_key_file
        )

    def refuse_unused_files(self) -> None:
        """Refuse certificate files if no URL is encrypted.

        Raises:
            ConfigError: a certificate file is set, and no URL uses TLS.

        """
        if self._any_tls:
            return
        for name in (*TLS, *_CLIENT_TLS):
            if getattr(self._settings, name) is not None:
                raise ConfigError(f"{name} is set but no URL is encrypted: use mqtts:// or wss://")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current step on a terminal; an empty text ends the display."""
    on = live_console()
    if not on.is_terminal:
        yield lambda _: None
        return
    with Status("", console=on) as status:

        def show(step: str) -> None:
            if step:
                status.update(cell(step))
            else:
                status.stop()

        yield show
