"""The npm package: packed from this repository, installed elsewhere, used by TypeScript, Node and React."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mqtt_presence
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
QUIET = ["--no-audit", "--no-fund", "--loglevel=error"]

CONSUMER = """
import {PresenceClient, PresenceError, StatusWatcher} from "mqtt-presence-client";

const client = new PresenceClient("wss://broker.example/mqtt", {user: "alice", idleThreshold: 60_000});
const watcher: StatusWatcher = new StatusWatcher(client);
watcher.subscribe(() => {
  for (const user of watcher.getSnapshot().users) {
    const since: Date | null = user.since;
    console.log(user.userId.toUpperCase(), user.connections + 1, since?.getTime());
  }
});
export async function main(): Promise<boolean> {
  try {
    await client.connect({timeout: 1000});
    client.monitor.start({threshold: 60_000});
  } catch (error) {
    if (error instanceof PresenceError) console.log(error.code satisfies string);
  }
  for await (const snapshot of client) if (!snapshot.connected) break;
  return client.disconnect();
}
"""

MISTAKES = {
    "new PresenceClient(1, {user: 'a'});": "TS2345",
    "new PresenceClient('ws://a', {usr: 'a'});": "TS2561",
    "new PresenceClient('ws://a', {user: 'a'}).getSnapshot().nothing;": "TS2339",
}
"""Lines that a strict compiler must refuse, and the number of its error."""


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the repository and install the package into a new project, with the MQTT.js that npm picks."""
    folder = tmp_path_factory.mktemp("npm")
    packed = run("npm", "pack", *QUIET, "--pack-destination", folder, cwd=ROOT)
    assert packed.returncode == 0, packed.stderr
    [archive] = folder.glob("*.tgz")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    own = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    others = [
        f"{name}@{own[f'node_modules/{name}']['version']}" for name in ("react", "react-dom", "happy-dom")
    ]
    done = run("npm", "install", *QUIET, "--ignore-scripts", "--prefer-offline", archive, *others, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run mosquitto with a WebSocket, and a bridge beside it."""
    port = free_port()
    with Mosquitto(tmp_path / "broker", f"listener {port} 127.0.0.1\nprotocol websockets") as started:
        started.ws_url = f"ws://127.0.0.1:{port}"
        with BridgeThread(broker=started.url, database=f"sqlite:///{tmp_path / 'presence.db'}"):
            yield started


def test_package_has_the_modules_and_their_types(project: Path) -> None:
    """All modules of `presence.js` and a declaration for each, and the version of the Python package."""
    [archive] = project.glob("*.tgz")
    with tarfile.open(archive) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
    static = ROOT / "mqtt_presence/web/static"
    modules = {path.relative_to(static) for path in static.rglob("presence*/*.js")} | {Path("presence.js")}
    assert len(modules) > 20
    assert {f"mqtt_presence/web/static/{module}" for module in modules} <= names
    assert {f"build/types/{module.with_suffix('.d.ts')}" for module in modules} <= names
    assert not [name for name in names if "vendor" in name or "page/" in name or name.endswith(".py")]
    manifest = json.loads((ROOT / "package.json").read_text("utf-8"))
    assert manifest["version"] == mqtt_presence.__version__


def compile_strictly(project: Path, code: str) -> str:
    (project / "consumer.ts").write_text(code)
    options = {"strict": True, "noEmit": True, "module": "nodenext", "target": "es2022"}
    options |= {
        "lib": ["es2022", "dom"],
        "types": [],
        "exactOptionalPropertyTypes": True,
        "skipLibCheck": True,
    }
    config = {"compilerOptions": options, "files": ["consumer.ts"]}
    (project / "tsconfig.json").write_text(json.dumps(config))
    done = run(ROOT / "node_modules/.bin/tsc", "--project", project, cwd=project)
    return done.stdout


def test_strict_typescript_compiles_against_it(project: Path) -> None:
    """A strict program with the main classes has no error; wrong ones have the error that they should."""
    assert compile_strictly(project, CONSUMER) == ""
    head = CONSUMER.strip().splitlines()[0]
    for line, number in MISTAKES.items():
        assert number in compile_strictly(project, f"{head}\n{line}\nexport {{}};"), line


def test_node_program_is_online_and_prints_changes(project: Path, broker: Mosquitto) -> None:
    """examples/online.mjs with the MQTT.js of npm: it sees itself, and logs out at its end."""
    shutil.copy(EXAMPLES / "online.mjs", project)
    recorder = broker.recorder()
    done = run("node", "online.mjs", broker.ws_url, "alice", "1", cwd=project)
    assert done.returncode == 0, done.stderr
    # Its own status may come before or after the answer to its login.
    connected, status = sorted(done.stdout.splitlines())
    assert connected.startswith("alice is online, connection ")
    assert status == "alice: online"
    assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "logout"
    wrong = run("node", "online.mjs", f"ws://127.0.0.1:{free_port()}", cwd=project)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


MOUNT = """
import {Window} from "happy-dom";
const window = new Window({url: "http://localhost/"});
Object.assign(globalThis, {window, document: window.document});
Object.defineProperty(globalThis, "navigator", {value: window.navigator, configurable: true});
const {createElement} = await import("react");
const {createRoot} = await import("react-dom/client");
const {People} = await import("./people.js");
const place = document.body.appendChild(document.createElement("div"));
const root = createRoot(place);
root.render(createElement(People, {url: process.argv[2], user: "alice"}));
let last = "";
const timer = setInterval(() => {
  const text = [...place.querySelectorAll("li")].map((item) => item.textContent).join(", ");
  if (text !== last) console.log((last = text));
}, 5);
process.stdin.on("end", () => {
  clearInterval(timer);
  root.unmount();
});
process.stdin.resume();
"""


def test_react_hook_renders_changes_and_leaves(project: Path, broker: Mosquitto) -> None:
    """examples/react: the list follows the users; unmounted, the user is offline."""
    for path in (EXAMPLES / "react").iterdir():
        shutil.copy(path, project)
    (project / "mount.mjs").write_text(MOUNT)
    recorder = broker.recorder()
    out = project / "react.log"
    with out.open("w") as log:
        node = subprocess.Popen(
            ["node", "mount.mjs", broker.ws_url], cwd=project, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        until(lambda: "alice: online" in out.read_text().splitlines(), "alice is in the list")
        broker.say("bob", "phone", "login")
        until(lambda: "alice: online, bob: online" in out.read_text().splitlines(), "bob is in the list")
        broker.say("bob", "phone", "logout")
        until(lambda: "alice: online, bob: offline" in out.read_text().splitlines(), "bob has left")
        node.stdin.close()
        assert node.wait(20) == 0, out.read_text()
    finally:
        node.kill()
        node.wait(20)
    assert recorder.wait_for_event("alice", "connectionLogout")["reason"] == "logout"
