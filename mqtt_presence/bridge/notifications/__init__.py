"""Notifications in the bridge: what is committed is queued with it, and sent by threads of their own.

`recorder` fills the queue and follows outages, `alarm_checks` raises alarms, `queue_retention` bounds the
queue; `sender` and `senders` send. Imports the bridge's committer, clock and values, `store`, `integrations`,
`protocol` and `rules`.
"""
