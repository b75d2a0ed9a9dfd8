"""``run`` with a schedule of retries that a test can wait for: the same program but for these figures.

Run as a file, with the options of ``run``.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from mqtt_presence.bridge.notifications.config import NotificationConfig
from mqtt_presence.cli import app, run

DELAYS_S = (0.02,) * 1000


def notifications(settings: Any) -> NotificationConfig:
    """Return the configuration of the settings with other figures."""
    return replace(as_set(settings), delays_s=DELAYS_S, look_every_s=0.05)


as_set = run.notifications

if __name__ == "__main__":
    run.notifications = notifications
    sys.argv.insert(1, "run")
    app.main()
