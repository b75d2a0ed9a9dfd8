"""Notifications: alarms, the bodies and signatures of messages to receivers, and the ways to send them.

Pure: `conditions`, `alarms`, `quiet_hours`, `receivers`, `notification`, `cloud_events`, `retry_schedule`,
`texts`. At the edge: `webhook`, `public_addresses`, `signing_keys`, `apprise_sender`. Imports `protocol`,
`rules` and `errors`.
"""
