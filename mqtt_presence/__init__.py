"""Presence for MQTT: who is online, who is idle, who has just left, and who was here when."""

__version__ = "0.1.0"
