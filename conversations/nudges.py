"""How a driver learns that the table of runs has changed, sooner than its next look.

A nudge may be lost without harm: the rows say what is due, and drivers look at them anyway.
"""

from __future__ import annotations

from django.db import connection

from conversations.models.events import WORK_CHANNEL as CHANNEL

__all__ = ["CHANNEL", "nudge"]


def nudge() -> None:
    """Tell the drivers, once the current transaction commits. SQLite needs no telling: a driver
    there watches the database's own change counter."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
