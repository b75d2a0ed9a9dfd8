"""The picture in docs/homeassistant.md: a user's device in the real Home Assistant."""

import json
import os
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.homeassistant.conftest import ForHomeAssistant
from tests.homeassistant.hass import HomeAssistant
from tests.support.bridges import BridgeThread
from tests.support.browser import launch

PICTURE = Path(__file__).parents[2] / "docs/homeassistant.png"
MOST_BYTES = 150_000
# Set to replace the file, as for the pictures of the page.
KEEP = "KEEP_SCREENSHOTS"


def test_device_page_shows_the_user(tmp_path: Path, mosquitto: ForHomeAssistant, hass: HomeAssistant) -> None:
    """The device page has the user's name and five entities."""
    with (
        BridgeThread(broker=mosquitto.url, database=f"sqlite:///{tmp_path}/presence.db", homeassistant=True),
        sync_playwright() as playwright,
    ):
        mosquitto.say("alice", "phone", "login", b'{"connectionId":"c1"}')
        hass.shows("alice", state="online")
        (device,) = [d["id"] for d in hass.ask("config/device_registry/list") if d["name"] == "alice"]
        tokens = hass.tokens | {
            "hassUrl": hass.url,
            "clientId": f"{hass.url}/",
            "expires": int(time.time() * 1000) + 1_800_000,
        }
        page = launch(playwright).new_page(viewport={"width": 1000, "height": 620})
        page.add_init_script(f"localStorage.hassTokens = {json.dumps(json.dumps(tokens))}")
        page.goto(f"{hass.url}/config/devices/device/{device}")
        for text in ("alice", "Connected", "Since", "Connections", "Presence", "State"):
            expect(page.get_by_text(text, exact=True).first).to_be_visible(timeout=60_000)
        page.wait_for_timeout(1_000)  # its fonts and icons fade in; nothing says when they have
        picture = page.screenshot(path=tmp_path / "device.png", animations="disabled")
    assert 5_000 < len(picture) < MOST_BYTES
    if os.environ.get(KEEP):
        PICTURE.write_bytes(picture)


def test_the_picture_in_the_document_is_there() -> None:
    """The document shows it, and it is small."""
    assert "(homeassistant.png)" in (PICTURE.parent / "homeassistant.md").read_text("utf-8")
    assert 5_000 < PICTURE.stat().st_size < MOST_BYTES
