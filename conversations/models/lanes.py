"""Whose turn it is: the due runs that nobody holds, in lanes that are served in turn.

A lane holds the runs of one project for one connection in one status, the longest due first.
However long one of them is, the front of the others is found at the same cost: everything here
reads the fronts of the indexes that begin with the same words as its conditions. Written in SQL,
since the ORM can neither walk from lane to lane nor take the fronts of several at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

FRONTS_AT_ONCE = 100
"""How many lanes one statement reads; SQLite takes 500."""

_BUSINESS = """
SELECT EXISTS (SELECT 1 FROM conversations_run WHERE lease_expires_at <= %s),
       EXISTS (SELECT 1 FROM conversations_run WHERE leased_by IS NULL AND expires_at <= %s),
       EXISTS (SELECT 1 FROM conversations_run WHERE leased_by IS NULL AND due_at <= %s)
"""
_LANES = """
WITH RECURSIVE lane (connection_id, project_id, status) AS (
    SELECT * FROM (
        SELECT connection_id, project_id, status FROM conversations_run
        WHERE leased_by IS NULL AND due_at IS NOT NULL
        ORDER BY connection_id, project_id, status LIMIT 1
    ) AS first_lane
    UNION ALL
    SELECT run.connection_id, run.project_id, run.status
    FROM lane JOIN conversations_run AS run ON run.id = coalesce(
        (SELECT id FROM conversations_run AS next
         WHERE leased_by IS NULL AND due_at IS NOT NULL AND next.connection_id = lane.connection_id
         AND next.project_id = lane.project_id AND next.status > lane.status
         ORDER BY next.status LIMIT 1),
        (SELECT id FROM conversations_run AS next
         WHERE leased_by IS NULL AND due_at IS NOT NULL AND next.connection_id = lane.connection_id
         AND next.project_id > lane.project_id
         ORDER BY next.project_id, next.status LIMIT 1),
        (SELECT id FROM conversations_run AS next
         WHERE leased_by IS NULL AND due_at IS NOT NULL
         AND next.connection_id > lane.connection_id
         ORDER BY next.connection_id, next.project_id, next.status LIMIT 1)
    )
)
SELECT connection_id, project_id, status FROM lane WHERE EXISTS (
    SELECT 1 FROM conversations_run AS run
    WHERE leased_by IS NULL AND due_at <= %s AND run.connection_id = lane.connection_id
    AND run.project_id = lane.project_id AND run.status = lane.status
)
"""
_FRONT = """
SELECT * FROM (
    SELECT %s AS lane, id FROM conversations_run
    WHERE leased_by IS NULL AND connection_id = %s AND project_id = %s AND status = %s
    AND due_at <= %s ORDER BY due_at LIMIT %s OFFSET %s {lock}
) AS front_{number}
"""
_LEASE = """
UPDATE conversations_run
SET leased_by = %s, lease_expires_at = %s, due_at = NULL, claims = claims + 1
WHERE id IN ({keys}) AND (leased_by IS NULL OR lease_expires_at <= %s)
"""


class Lane(NamedTuple):
    connection: int
    project: int
    status: str


class Business(NamedTuple):
    """What there is to do for whoever claims runs."""

    lapsed: bool
    overdue: bool
    due: bool


Wanted = Callable[[Lane], bool]


def business(now: datetime) -> Business:
    """One cheap look, for a driver that has nothing to do."""
    return Business(*map(bool, _rows(_BUSINESS, [_moment(now)] * 3)[0]))


def lanes(now: datetime) -> list[Lane]:
    """Those in which a run is due. Costs by the number of lanes, not of runs."""
    return [Lane(*row) for row in _rows(_LANES, [_moment(now)])]


def in_turn(now: datetime, limit: int, wanted: Wanted) -> list[int]:
    """Keys of up to `limit` due runs of the lanes that are `wanted`, as many of each as there are,
    and locked where the database can. Who is first changes from time to time: of many lanes a
    small `limit` serves each as often."""
    open_lanes = [lane for lane in lanes(now) if wanted(lane)]
    random.shuffle(open_lanes)
    taken: dict[Lane, list[int]] = {lane: [] for lane in open_lanes}
    while open_lanes and (left := limit - sum(map(len, taken.values()))) > 0:
        quota = max(1, left // len(open_lanes))
        served, ample = open_lanes[:left], []
        for chunk in (
            served[at : at + FRONTS_AT_ONCE] for at in range(0, len(served), FRONTS_AT_ONCE)
        ):
            for lane, keys in zip(chunk, _fronts(chunk, taken, now, quota), strict=True):
                taken[lane] += keys
                if len(keys) == quota:
                    ample.append(lane)
        open_lanes = open_lanes[left:] + ample
    return [key for keys in taken.values() for key in keys]


def lease(keys: Sequence[int], *, driver: str, until: datetime, now: datetime) -> None:
    """Give these runs to `driver`. The condition is repeated, so of two drivers that saw the same
    row one gets it."""
    sql = _LEASE.format(keys=", ".join(["%s"] * len(keys)))
    with connection.cursor() as cursor:
        cursor.execute(sql, [driver, _moment(until), *keys, _moment(now)])


def _fronts(
    served: list[Lane], taken: dict[Lane, list[int]], now: datetime, quota: int
) -> list[list[int]]:
    """The next `quota` keys of each lane, behind those that are taken."""
    can_skip = connection.features.has_select_for_update_skip_locked
    lock = "FOR UPDATE SKIP LOCKED" if can_skip else ""
    parts, values = [], []
    for number, lane in enumerate(served):
        parts.append(_FRONT.format(lock=lock, number=number))
        values += [number, *lane, _moment(now), quota, len(taken[lane])]
    fronts: list[list[int]] = [[] for _ in served]
    for number, key in _rows(" UNION ALL ".join(parts), values):
        fronts[number].append(key)
    return fronts


def _moment(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _rows(sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()
