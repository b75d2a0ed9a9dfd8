"""Writing a broker's configuration with passwords and certificates: for ``mqtt-presence init-broker``."""
