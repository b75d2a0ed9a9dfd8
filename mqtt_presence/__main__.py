"""``python -m mqtt_presence`` is ``mqtt-presence``."""

from mqtt_presence.cli import main

if __name__ == "__main__":
    main()
