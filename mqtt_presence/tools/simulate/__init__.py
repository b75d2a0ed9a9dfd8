"""The tool `simulate`: many users on real sockets, from a seeded plan with expected statuses.

Imports `client` and the rooms below it, and the store to delete its users.
"""
