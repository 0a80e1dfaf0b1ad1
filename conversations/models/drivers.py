"""Which drivers are alive, as they say themselves."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models


class DriverHeartbeatQuerySet(models.QuerySet["DriverHeartbeat"]):
    def alive(self, now: datetime) -> DriverHeartbeatQuerySet:
        """Seen within two leases: longer than any pause between two heartbeats."""
        return self.filter(seen_at__gt=now - timedelta(seconds=2 * settings.DRIVER_LEASE_SECONDS))


class DriverHeartbeat(models.Model):
    """One row per running driver, renewed with its leases; `in_flight` counts its runs."""

    name = models.CharField(max_length=100, unique=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    in_flight = models.PositiveIntegerField(default=0)

    objects = DriverHeartbeatQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name
