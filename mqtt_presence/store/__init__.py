"""The database of presence, SQLite or PostgreSQL: written by `Store`, read by `reader.Reader`.

Imports `errors`, `rules` and `protocol`. No other folder imports peewee.
"""

from mqtt_presence.store.bridge_tables import MUST_ANNOUNCE, MUST_REPUBLISH, SeatFacts
from mqtt_presence.store.database import LEASE_MS
from mqtt_presence.store.database_loss import DatabaseLoss, DatabasePlace
from mqtt_presence.store.jobs import ImplicitRecord
from mqtt_presence.store.record_history import START, HistoryBusyError, Place
from mqtt_presence.store.rows import ANNOUNCED_AT
from mqtt_presence.store.seat import Candidate
from mqtt_presence.store.store import Store
from mqtt_presence.store.transaction import Transaction

__all__ = [
    "ANNOUNCED_AT",
    "LEASE_MS",
    "MUST_ANNOUNCE",
    "MUST_REPUBLISH",
    "START",
    "Candidate",
    "DatabaseLoss",
    "DatabasePlace",
    "HistoryBusyError",
    "ImplicitRecord",
    "Place",
    "SeatFacts",
    "Store",
    "Transaction",
]
