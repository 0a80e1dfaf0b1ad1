"""`manage.py doctor`: is everything there that a run needs?"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from conversations.management.findings import examine


class Command(BaseCommand):
    help = (
        "One line per part, and what to do about those that are wrong. Exit 1 if a run cannot go."
    )
    requires_system_checks = []  # It reports them itself.

    def handle(self, **options: Any) -> None:
        missing = 0
        for finding in examine():
            missing += finding.missing
            mark = "MISSING" if finding.missing else "look at" if finding.advice else "ok"
            self.stdout.write(f"{mark:<8} {finding.part}: {finding.text}")
            if finding.advice:
                self.stdout.write(f"{'':<8} -> {finding.advice}")
            self.stdout.flush()
        if missing:
            things = (
                "one thing a run needs is" if missing == 1 else f"{missing} things a run needs are"
            )
            raise CommandError(f"{things} missing.")
