"""Who holds how much of a connection's limits, where no Redis keeps it."""

from __future__ import annotations

from django.db import models

from assistant_manager.models import Connection


class LimitsBook(models.Model):
    """One row a connection, changed under its lock; `shares` reads and writes its text."""

    connection = models.OneToOneField(
        Connection, models.CASCADE, primary_key=True, related_name="+"
    )
    text = models.TextField()

    def __str__(self) -> str:
        return self.text
