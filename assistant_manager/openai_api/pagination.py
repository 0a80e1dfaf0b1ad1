"""Lists in pages: newest first unless asked otherwise, cursors are ids, exclusive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from pydantic import Field

from assistant_manager.ids import has_prefix
from assistant_manager.openai_api.errors import Wire, malformed_id, not_found
from assistant_manager.openai_api.validation import Query


class Page(Query):
    """`limit`, `order` and `after`, which every list takes."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class PageBothWays(Page):
    before: str | None = None


def paged(
    rows: QuerySet[Any],
    page: Page,
    *,
    noun: str,
    prefix: str | tuple[str, ...],
    wire: Callable[[Any], Wire],
    cursors: QuerySet[Any] | None = None,
) -> Wire:
    """The page of `rows` that was asked for, ordered by primary key, which never ties.

    `cursors` are the rows that `after` and `before` may name, where they are more than `rows`:
    what was deleted between two pages still marks its place. Raises WireError for a cursor that
    is no such id.
    """
    known = rows if cursors is None else cursors
    found, more = _slice(rows, page, known, noun, prefix)
    return page_wire([wire(row) for row in found], more=more)


def page_wire(data: list[Wire], *, more: bool) -> Wire:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }


def _slice(
    rows: QuerySet[Any], page: Page, known: QuerySet[Any], noun: str, prefix: str | tuple[str, ...]
) -> tuple[list[Any], bool]:
    before = page.before if isinstance(page, PageBothWays) else None
    newest_first = page.order == "desc"
    if page.after is not None:
        place = _place(known, "after", page.after, noun, prefix)
        rows = rows.filter(**{"pk__lt" if newest_first else "pk__gt": place})
    if before is not None:
        place = _place(known, "before", before, noun, prefix)
        rows = rows.filter(**{"pk__gt" if newest_first else "pk__lt": place})
    # With `before` alone the page is the one that ends there: read backwards, then turned.
    backwards = before is not None and page.after is None
    found = list(rows.order_by("-pk" if newest_first != backwards else "pk")[: page.limit + 1])
    more, found = len(found) > page.limit, found[: page.limit]
    return (found[::-1] if backwards else found), more


def _place(
    known: QuerySet[Any], param: str, cursor: str, noun: str, prefix: str | tuple[str, ...]
) -> int:
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    if not has_prefix(cursor, *prefixes):
        raise malformed_id(param, cursor, prefixes[0])
    place: int | None = known.filter(public_id=cursor).values_list("pk", flat=True).first()
    if place is None:
        raise not_found(noun, cursor)
    return place
