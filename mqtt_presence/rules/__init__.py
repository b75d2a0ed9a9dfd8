"""Presence rules: values, the fold over one user's events, and a user's status. Pure; imports nothing else of ours but `errors`."""
