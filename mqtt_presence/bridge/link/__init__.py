"""The bridge's connection to the broker; the only room of the bridge that imports paho.

Imports `access`, `protocol`, `mqtt` and `errors`.
"""
