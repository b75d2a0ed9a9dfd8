"""Puts the page's libraries and bundle into the wheel: from npm's archives, as package-lock.json pins them.

Without npm, or without a network, the build goes on and says what is missing: all but the page works.
"""

import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = "mqtt_presence/web/static"
VENDOR = f"{STATIC}/vendor"
TAKEN = {
    "mqtt/dist/mqtt.esm.js": "mqtt.esm.js",
    "mqtt/LICENSE.md": "mqtt.LICENSE.md",
    "preact/LICENSE": "preact.LICENSE",
    "htm/LICENSE": "htm.LICENSE",
    "uplot/dist/uPlot.min.css": "uplot.css",
    "uplot/LICENSE": "uplot.LICENSE",
}
"""Files that are taken out of npm's archives as they are, and their names here."""
BUILT = {
    "preact.js": 'export {h, render, Fragment} from "preact"; export * from "preact/hooks";'
    ' import {h} from "preact"; import htm from "htm"; export const html = htm.bind(h);',
    "uplot.js": 'export {default} from "uplot";',
}
"""Files that esbuild makes of the libraries, each of one module."""
TYPES = {
    "preact.d.ts": 'export * from "preact"; export * from "preact/hooks"; import {VNode} from "preact";\n'
    "export declare const html: (strings: TemplateStringsArray, ...values: unknown[]) => VNode;\n",
    "uplot.d.ts": 'export {default} from "uplot";\n',
}
"""Types of those files, for the type checker; not in the wheel."""
PACKAGES = ("mqtt", "preact", "htm", "uplot", "esbuild-wasm")
"""The last one makes the bundle, and is in no wheel."""
STAMP = "made.from"
"""Tells which archives and modules the files there were made of."""
NPM_TIMEOUT_S = 180
ESBUILD_TIMEOUT_S = 120


class MissingError(Exception):
    """The libraries cannot be had here; the message says why."""


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before a wheel is built, an editable one too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files if they are not there, and add them to the wheel.

        Raises:
            ValueError: npm brought something else than the archives that the lock file pins.

        """
        del version
        root = Path(self.root)
        try:
            make(root)
        except MissingError as error:
            self.app.display_warning(
                f"The page's libraries, among them MQTT.js, are NOT in this build: {error}\n"
                "Broker, bridge and command line work; the web page and presence.js need them: install npm"
                " (Debian: apt-get install npm) and build again. docs/browser.md says more."
            )
        else:
            bundle = _bundle_module(root)
            made = [f"vendor/{name}" for name in (*TAKEN.values(), *BUILT)] + [bundle.BUNDLE, bundle.STAMP]
            build_data["artifacts"] += [f"/{STATIC}/{name}" for name in made]


def make(root: Path) -> None:
    """Put the pinned libraries and the page's bundle where the web server looks for them.

    Args:
        root: the directory of package-lock.json.

    Raises:
        MissingError: there is no npm, or it cannot bring them.
        ValueError: an archive is not the pinned one.

    """
    packages = json.loads((root / "package-lock.json").read_text("utf-8"))["packages"]
    pinned = {name: packages[f"node_modules/{name}"] for name in PACKAGES}
    static, vendor, bundle = root / STATIC, root / VENDOR, _bundle_module(root)
    stamp = "".join(f"{name} {entry['version']} {entry['integrity']}\n" for name, entry in pinned.items())
    files = [vendor / name for name in (*TAKEN.values(), *BUILT, *TYPES, STAMP)]
    has_libraries = all(file.is_file() for file in files) and (vendor / STAMP).read_text("utf-8") == stamp
    if has_libraries and bundle.is_current(static):
        return
    if not has_libraries:
        for file in files:  # one of another version must not pass for this one
            file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        modules = _unpacked(root, pinned, Path(directory))
        vendor.mkdir(parents=True, exist_ok=True)
        for member, name in TAKEN.items():
            shutil.copyfile(modules / member, vendor / name)
        for name, source in BUILT.items():
            entry = modules.parent / name
            entry.write_text(source, "utf-8")
            _esbuild(modules, [str(entry), f"--outfile={vendor / name}"])
        for name, types in TYPES.items():
            (vendor / name).write_text(types, "utf-8")
        made = modules.parent / "page.js"
        _esbuild(modules, [str(static / "page/main.js"), f"--outfile={made}"])
        (static / bundle.BUNDLE).parent.mkdir(exist_ok=True)
        (static / bundle.STAMP).unlink(missing_ok=True)
        shutil.copyfile(made, static / bundle.BUNDLE)
        (static / bundle.STAMP).write_text(bundle.digest(static), "utf-8")
        (vendor / STAMP).write_text(stamp, "utf-8")


def _bundle_module(root: Path) -> Any:
    """Load the definition of the bundle by its path: the package itself has requirements."""
    spec = importlib.util.spec_from_file_location("bundle", root / "mqtt_presence/web/bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unpacked(root: Path, pinned: Mapping[str, Mapping[str, str]], directory: Path) -> Path:
    """Return a `node_modules` with the pinned packages."""
    _pack(root, [f"{name}@{entry['version']}" for name, entry in pinned.items()], directory)
    for name, entry in pinned.items():
        archive = directory / f"{name}-{entry['version']}.tgz"
        _verify(archive, entry["integrity"])
        with tarfile.open(archive) as tar:
            tar.extractall(directory / "unpacked" / name, filter="data")
        target = directory / "node_modules" / name
        target.parent.mkdir(exist_ok=True)
        (directory / "unpacked" / name / "package").rename(target)
    return directory / "node_modules"


def _pack(root: Path, packages: Sequence[str], directory: Path) -> None:
    """Let npm download packages, without running anything of them."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("there is no npm on the PATH")
    command = [npm, "pack", *packages, "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    command += [f"--pack-destination={directory}"]
    try:
        done = subprocess.run(  # noqa: S603 - a constant but for the versions in the lock file
            command, cwd=root, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"npm does not work: {error}") from error
    if done.returncode or len(list(directory.glob("*.tgz"))) != len(packages):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise MissingError(
            f"npm cannot fetch {', '.join(packages)}: {' '.join(said[:3]) or f'exit {done.returncode}'}"
        )


def _verify(archive: Path, integrity: str) -> None:
    """Compare with the lock file's own hash: ours to check, whatever the registry said."""
    algorithm, _, expected = integrity.partition("-")
    digest = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if digest != expected:
        raise ValueError(f"npm brought a {archive.name} with {algorithm}-{digest}, pinned is {integrity}")


def _esbuild(modules: Path, arguments: Sequence[str]) -> None:
    """Make one file of a module and all its imports. This esbuild is WebAssembly, for every machine."""
    node = shutil.which("node")
    if node is None:
        raise MissingError("there is no node on the PATH")
    command = [node, str(modules / "esbuild-wasm/bin/esbuild"), *arguments, "--bundle", "--format=esm"]
    command += [
        "--minify",
        "--target=es2022",
        "--charset=utf8",
        "--log-level=warning",
        "--legal-comments=none",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - constants, and paths of this build
            command,
            cwd=modules.parent,
            capture_output=True,
            text=True,
            timeout=ESBUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"node does not work: {error}") from error
    if done.returncode:
        raise ValueError(f"esbuild cannot bundle {arguments[0]}: {done.stderr}")
