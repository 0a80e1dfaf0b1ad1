"""What the quickstart tells a person once everything is up."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import cast

from django.conf import settings

from assistant_manager.demo import Demo, ensure_key
from assistant_manager.models import Model, SignInLink
from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.sandbox import TierReport, probe
from assistant_manager.sandbox.probe import TierName, candidates
from conversations.management.first_question import request_body

KEY_FILE = settings.DATA_DIR / "quickstart_api_key"


def introduction(site: str, demo: Demo | None, tiers: list[TierReport]) -> str:
    """The parts and the ways in. Issues the sign-in link, and the API key on first use."""
    parts = (
        ("database", database_in_words()),
        ("queue", queue_in_words()),
        ("answers", answers_in_words()),
        ("sandbox", sandbox_in_words(tiers)),
        ("logs", shortened(settings.DATA_DIR / "logs")),
    )
    ways_in = doors_of_a_bare_site(site) if demo is None else doors_of_a_demo(site, demo)
    lines = ["Assistant Manager", *(f"  {part:<9} {text}" for part, text in parts), "", *ways_in]
    return "\n".join(lines)


def doors_of_a_bare_site(site: str) -> list[str]:
    return [
        f"  Open  {site}/admin/",
        "        (manage.py createsuperuser makes the first user)",
        "  Key   manage.py create_api_key --project default --name NAME",
    ]


def doors_of_a_demo(site: str, demo: Demo) -> list[str]:
    lines = []
    if demo.user.is_active:
        lines.append(f"  Open  {site}/start/{SignInLink.objects.issue(demo.user)}")
        lines.append(f"        (signs you in as {demo.user}; works once, within 15 minutes)")
    token = ensure_key(KEY_FILE)
    lines.append(f"  Key   {token}")
    if demo.assistant is not None:
        lines.append(f"  Try   {curl_line(site, token, demo.assistant.public_id)}")
    return lines


def curl_line(site: str, token: str, assistant_id: str) -> str:
    """One line that works as pasted: it asks a question and shows the queued run."""
    body = json.dumps(request_body(assistant_id))
    headers = [f"Authorization: Bearer {token}", "Content-Type: application/json"]
    shown = " ".join(f'-H "{header}"' for header in headers)
    return f"curl -s {site}/v1/threads/runs {shown} -d {shlex.quote(body)}"


def database_in_words() -> str:
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return f"{shortened(Path(database['NAME']))} (SQLite)"
    return f"{database['NAME']} on {database['HOST'] or 'this machine'} (PostgreSQL)"


def queue_in_words() -> str:
    if settings.REDIS_URL:
        return "Redis"
    return f"{shortened(settings.DATA_DIR / 'broker')} (files)"


def answers_in_words() -> str:
    model = Model.objects.resolve(ANY_MODEL)
    if model is None:
        return "nothing is connected: add a connection and a model in the admin"
    kind = "offline, needs no key" if model.connection.kind == "embedded" else model.connection.kind
    return f"{model.connection} ({kind})"


def try_sandbox() -> list[TierReport]:
    """The tiers tried, up to the first that works."""
    tried: list[TierReport] = []
    for tier in candidates(settings.SANDBOX_TIER):
        tried += probe(cast(TierName, tier.name))
        if tried[-1].works:
            break
    return tried


def sandbox_in_words(tiers: list[TierReport]) -> str:
    for report in tiers:
        if report.works:
            return report.tier
    reasons = "; ".join(f"{report.tier}: {report.reason}" for report in tiers)
    return f"none works, so answers that need code will fail ({reasons or 'switched off'})"


def shortened(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
