"""Comparing the database with the broker's retained statuses, and correcting what differs."""
