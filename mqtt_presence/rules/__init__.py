"""Presence rules: values, the fold over one user's events, and a user's status; pure.

Imports nothing else of the package.
"""
