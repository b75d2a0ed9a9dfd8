"""Where presence is kept; the only package that imports peewee."""

from mqtt_presence.store.transaction import PORTION, Store, Transaction

__all__ = ["PORTION", "Store", "Transaction"]
