"""Books in the database: one row a connection, changed under its lock, by the database's clock."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from assistant_manager.engines.allotments import Ask, Share
from conversations.models import LimitsBook
from conversations.shares.book import Book


class DatabaseShares:
    def __init__(self, driver: str) -> None:
        self._driver = driver

    @transaction.atomic
    def settle(self, ask: Ask) -> Share:
        rows = LimitsBook.objects.select_for_update().annotate(now=Now())
        row = rows.filter(pk=ask.connection).first()
        if row is None:
            empty = LimitsBook(pk=ask.connection, text=Book().write())
            LimitsBook.objects.bulk_create([empty], ignore_conflicts=True)
            row = rows.get(pk=ask.connection)
        book = Book.read(row.text)
        now, lease = row.now.timestamp(), settings.DRIVER_LEASE_SECONDS
        share = book.settle(self._driver, ask, now=now, lease=lease)
        LimitsBook.objects.filter(pk=ask.connection).update(text=book.write())
        return share
