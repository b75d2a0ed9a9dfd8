"""``mqtt-presence simulate``: simulate many users with real connections, and check their statuses."""

import glob
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.cli.output import live_console, print_error, print_line
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.cli.signals import on_end_signals
from mqtt_presence.errors import BrokerError, ConfigError
from mqtt_presence.protocol.topics import Topics, require_name
from mqtt_presence.settings import Settings, parse_duration
from mqtt_presence.tools.simulate import simulation_run
from mqtt_presence.tools.simulate.scenario import Plan, Scenario
from mqtt_presence.tools.simulate.simulated_devices import SimulatedDevices
from mqtt_presence.tools.simulate.simulated_names import USER, Count, SimulatedNames
from mqtt_presence.tools.simulate.simulated_users import SimulatedUsers
from mqtt_presence.tools.simulate.socket_loop import Loop, allow_files, find_target
from mqtt_presence.tools.simulate.status_reader import StatusReader

WRONG = 1
_SHOWN = 10
_SEEDS = 2**31
_MAX_NAME = 100
_BRIDGE_S = 1.0  # the bridge's retained state arrives shortly after connecting


@with_settings("broker", "database", "prefix", *TLS)
def command(
    settings: Settings,
    *,
    users: Annotated[int, typer.Option("--users", help="The number of users.")] = 100,
    connections: Annotated[
        int, typer.Option("--connections", help="The number of connections of each user.")
    ] = 2,
    rate: Annotated[float, typer.Option("--rate", help="Messages a second, of all users together.")] = 50.0,
    churn: Annotated[
        float, typer.Option("--churn", help="The share of messages that end a connection.")
    ] = 0.2,
    abrupt: Annotated[
        float,
        typer.Option(
            "--abrupt", help="The share of ends that cut the socket, so that the will is published."
        ),
    ] = 0.3,
    idle: Annotated[
        float, typer.Option("--idle", help="The share of reports that are idle rather than active.")
    ] = 0.5,
    implicit: Annotated[
        bool,
        typer.Option(
            "--implicit",
            help="Clients only connect and disconnect: for a bridge with implicit=username.",
        ),
    ] = False,
    storm_every: Annotated[
        str | None,
        typer.Option(
            "--storm-every",
            help="The interval at which all connections are cut and reconnect at once.",
            metavar="DURATION",
        ),
    ] = None,
    for_how_long: Annotated[
        str | None,
        typer.Option(
            "--duration", help="The length of the simulation; default: until SIGINT.", metavar="DURATION"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", help="The seed of the random plan, to repeat a simulation.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The beginning of all names; default: sim- and random characters."),
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            "--password", help=f"The password of every simulated user; {USER} stands for the user's name."
        ),
    ] = None,
    settle: Annotated[
        str,
        typer.Option(
            "--settle",
            help="How long to wait for statuses to settle at the end, and for an absent broker.",
            metavar="DURATION",
        ),
    ] = "30s",
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Leave the users online: disconnect without a logout, and keep their records."
        ),
    ] = False,
    keep_records: Annotated[
        bool, typer.Option("--keep-records", help="Leave the users offline, and keep their records.")
    ] = False,
) -> None:
    """Simulate many users, and check their statuses.

    Each simulated connection is real, with its own user name, client id and will. At the end, the command
    compares every user's status with the expected one. Then all users log out, and the command compares
    again. The user in --broker reads the statuses. SIGINT, SIGTERM or SIGHUP ends the simulation but not the
    comparison; a second signal ends both. The simulation also ends if the broker is away for longer than
    --settle. Finally, the users are deleted from the bridge's --database, if it is on this machine.

    Exit codes: 0 all statuses are right; 1 some are wrong, or the broker cannot be used; 2 a setting is
    wrong.
    """
    logs.errors_only()
    scenario = Scenario(
        users=users,
        connections=connections,
        rate=rate,
        churn=churn,
        abrupt=abrupt,
        idle=0.0 if implicit else idle,
        storm_every_s=None if storm_every is None else parse_duration("storm_every", storm_every),
        duration_s=None if for_how_long is None else parse_duration("duration", for_how_long),
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
    )
    names = SimulatedNames(_name(name), users, connections, password)
    settle_s = parse_duration("settle", settle)
    if not settle_s:
        raise ConfigError(f"settle={settle} must be more than 0 seconds")
    simulated = None
    if not (keep or keep_records):
        simulated = SimulatedUsers(settings.database, _user_ids(names), f"{glob.escape(names.name)}-*")
    with _simulation(settings, scenario, names, settle_s, simulated, implicit=implicit) as simulation:
        print_line(
            f"{users} users, {users * connections} connections, named {names.name}-…, seed {scenario.seed}"
        )
        wrong = simulation.run()
        print_line(_numbers(simulation.progress.count))
        _print_result("at the end", wrong, users)
        if keep:
            simulation.disconnect_without_logout()
        else:
            offline = simulation.log_out()
            _print_result("after all have logged out", offline, users)
            wrong += offline
    if wrong:
        raise typer.Exit(WRONG)


def _user_ids(names: SimulatedNames) -> list[str]:
    return [names.user(number) for number in range(names.users)]


def _name(given: str | None) -> str:
    if given is None:
        return f"sim-{secrets.token_hex(3)}"
    if len(require_name("name", given)) > _MAX_NAME:
        raise ConfigError(f"name={given} must be {_MAX_NAME} characters at most")
    return given


def _print_result(when: str, wrong: list[simulation_run.WrongStatus], users: int) -> None:
    if not wrong:
        print_line(f"{when}: all {users} statuses are right")
        return
    print_error(f"{when}: {len(wrong)} of {users} statuses are wrong")
    for line in simulation_run.describe_first(wrong, _SHOWN):
        print_error(line)


@contextmanager
def _simulation(
    settings: Settings,
    scenario: Scenario,
    names: SimulatedNames,
    settle_s: float,
    simulated: SimulatedUsers | None,
    *,
    implicit: bool,
) -> Iterator[simulation_run.Simulation]:
    """Yield a simulation; after its end or failure, delete the simulated users.

    Args:
        settings: the broker's URL, certificates and prefix, and the database.
        scenario: the actions to simulate.
        names: the names of users and clients.
        settle_s: see `simulation_run.Simulation`.
        simulated: the users to delete; None to keep them.
        implicit: see `SimulatedDevices`.

    """
    endpoint = endpoint_of(settings)
    allow_files(names.users * names.connections)
    target = find_target(endpoint.url, endpoint.tls)
    topics = Topics(settings.prefix)
    loop = Loop()
    devices = SimulatedDevices(loop, target, topics, names, implicit=implicit)
    user_ids = _user_ids(names)
    observer = StatusReader(
        loop, target, endpoint.url, topics=topics, user_ids=user_ids, on_announce=devices.answer_announce
    )
    try:
        with _shown(scenario.duration_s, settle_s) as display:
            simulation = simulation_run.Simulation(
                Plan(scenario), devices, observer, loop, settle_s=settle_s, report=display.show
            )
            with on_end_signals(simulation.stop, _interrupt):
                try:
                    yield simulation
                except (KeyboardInterrupt, BrokerError):
                    # Wills of cut connections would bring back the users whose records are deleted.
                    with suppress(BrokerError):
                        simulation.disconnect_without_logout()
                    raise
    finally:
        loop.close()
        if simulated is not None and devices.count.logins:
            print_line(simulated.delete(broker_is_there=observer.away_since is None))


def _interrupt() -> None:
    raise KeyboardInterrupt  # unlike an exit, restores the terminal's cursor


class _ProgressDisplay:
    """Shows the progress on a terminal, and prints when the broker or the bridge goes away or comes back."""

    def __init__(self, progress: Progress, task: TaskID, settle_s: float) -> None:
        self._progress = progress
        self._task = task
        self._settle_s = settle_s
        self._was_away = False
        self._had_no_bridge = False

    def show(self, progress: simulation_run.RunProgress) -> None:
        count = progress.count
        if progress.away_s is not None and not self._was_away:
            since = simulation_run.since(progress.away_s)
            print_error(f"the broker is away {since}, waiting {self._settle_s:g} s for it")
        elif progress.away_s is None and self._was_away:
            print_error("the broker is back")
        self._was_away = progress.away_s is not None
        has_no_bridge = progress.bridge_away_s is not None and progress.bridge_away_s > _BRIDGE_S
        if has_no_bridge and not self._had_no_bridge:
            print_error("no bridge is online: is it running, on this broker and with this prefix?")
        elif self._had_no_bridge and progress.bridge_away_s is None and not self._was_away:
            print_error("the bridge is online")
        self._had_no_bridge = has_no_bridge
        self._progress.update(
            self._task,
            description=progress.doing,
            completed=progress.elapsed_s,
            # Fits 80 columns.
            numbers=f"{count.connected} here, {count.messages} messages, {count.lost} lost",
        )


def _numbers(count: Count) -> str:
    return (
        f"{count.connected} here, {count.messages} messages, {count.logins} logins, {count.logouts} logouts, "
        f"{count.cuts} cuts, {count.lost} lost"
    )


@contextmanager
def _shown(duration_s: float | None, settle_s: float) -> Iterator[_ProgressDisplay]:
    on = live_console()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}"),
        console=on,
        disable=not on.is_terminal,
        transient=True,
    )
    with progress:
        yield _ProgressDisplay(
            progress, progress.add_task("connecting", total=duration_s, numbers=""), settle_s
        )
