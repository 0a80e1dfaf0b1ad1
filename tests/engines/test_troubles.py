"""How long an upstream asks us to wait."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest
from django.utils import timezone

from assistant_manager.engines.troubles import retry_after


def asked(**headers: str) -> float | None:
    return retry_after({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": ""}, None),
        ({"retry_after_ms": "soon"}, None),
        ({"retry_after": "864000"}, 3600),
        ({"retry_after": "9" * 400}, 3600),
        ({"retry_after": "inf"}, 3600),
        ({"retry_after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600),
        ({"retry_after_ms": "1e30"}, 3600),
        ({"retry_after": "-5"}, 0),
        ({"retry_after": "nan"}, None),
        ({"retry_after_ms": "nan"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_in_seconds_or_not_at_all(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked(**headers) == seconds


def test_a_date_counts_from_now() -> None:
    at = timezone.now() + timedelta(seconds=100)
    wait = asked(retry_after=format_datetime(at, usegmt=True))
    assert wait is not None
    assert 60 < wait <= 100
