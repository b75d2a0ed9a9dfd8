"""Entry point of ``python -m mqtt_presence``: the command ``mqtt-presence``."""

from mqtt_presence.cli import main

if __name__ == "__main__":
    main()
