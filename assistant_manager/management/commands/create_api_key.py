"""`manage.py create_api_key`: a program's way in, from the terminal."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from assistant_manager.models import ApiKey, Project


class Command(BaseCommand):
    help = "Make an API key. It is printed once, as the last word, and stored as a digest only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, help="the project the key opens")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--expires", type=int, metavar="DAYS", help="default: never")

    def handle(self, *, project: str, name: str, expires: int | None, **options: Any) -> None:
        found = Project.objects.filter(name=project).first()
        if found is None:
            names = ", ".join(Project.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no project “{project}”. Projects: {names}.")
        if not name.strip() or len(name) > 100:
            raise CommandError("--name takes 1 to 100 characters.")
        if expires is not None and not 1 <= expires <= 36_500:
            raise CommandError("--expires takes a number of days from 1 to 36500.")
        key, token = ApiKey.objects.issue(
            project=found,
            name=name.strip(),
            expires_in=timedelta(days=expires) if expires else None,
        )
        until = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "for ever"
        self.stdout.write(
            f"“{key.name}” opens the project {found} {until}. Keep it, it is shown this once: {token}"
        )
