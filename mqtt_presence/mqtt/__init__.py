"""MQTT itself: URLs, packets, topic filters, sockets and library set-up; nothing of presence.

Imports `errors`.
"""
