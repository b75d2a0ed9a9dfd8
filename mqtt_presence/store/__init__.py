"""Where presence is kept; the only package that imports peewee."""

from mqtt_presence.store.presence import Store, Transaction

__all__ = ["Store", "Transaction"]
