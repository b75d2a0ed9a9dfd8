"""Prints the Python packages that Home Assistant would install when it first starts the integrations of the tests.

Runs in Home Assistant's own environment.
"""

import json
from pathlib import Path

import homeassistant.components
from homeassistant.bootstrap import CORE_INTEGRATIONS, DEFAULT_INTEGRATIONS

COMPONENTS = Path(homeassistant.components.__file__).parent
WANTED = {
    "mqtt",
    "binary_sensor",
    "device_tracker",
    "sensor",
    "recorder",
    *CORE_INTEGRATIONS,
    *DEFAULT_INTEGRATIONS,
}


def requirements(domains: set[str]) -> set[str]:
    """Return the requirements of integrations and of all that they depend on."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = set(domains)
    while waiting:
        domain = waiting.pop()
        seen.add(domain)
        manifest = json.loads((COMPONENTS / domain / "manifest.json").read_text())
        found.update(manifest.get("requirements", ()))
        waiting.update(set(manifest.get("dependencies", ())) - seen)
    return found


print("\n".join(sorted(requirements(WANTED))))
