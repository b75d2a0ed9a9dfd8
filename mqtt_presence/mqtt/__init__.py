"""MQTT without presence: URLs, packets, topic filters, sockets, and the set-up of libraries.

Imports `errors`.
"""
