"""docs/design.md names the parts that only the holder of seat 0 has."""

import importlib
import pkgutil
import re
from pathlib import Path

import mqtt_presence.bridge
from mqtt_presence.bridge.part import Part

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"


def parts(of: type[Part] = Part) -> set[type[Part]]:
    """Return all kinds of parts."""
    return {part for kind in of.__subclasses__() for part in {kind, *parts(kind)}}


def test_the_list_of_parts_of_seat_0_is_that_of_the_code() -> None:
    for module in pkgutil.walk_packages(mqtt_presence.bridge.__path__, "mqtt_presence.bridge."):
        importlib.import_module(module.name)
    _, _, listed = DESIGN.read_text().partition("Only seat 0 has these parts:")
    names = set(re.findall(r"`([A-Z]\w+)`", listed.partition(". Of the")[0]))
    ours = {p for p in parts() if p.__module__.startswith("mqtt_presence.")}
    assert names == {part.__name__ for part in ours if not part.is_of_all}
