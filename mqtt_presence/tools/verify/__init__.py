"""The tool `verify`: compares the database with the broker's retained statuses, and corrects differences.

Imports `client`, `store` and the rooms below them.
"""
