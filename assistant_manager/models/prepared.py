"""Queries asked so often that their SQL is written once.

The ORM takes longer to write the SQL of a small query than the database to answer it. Here it
writes it on the first call, from an ordinary queryset, so that columns, walls and names of queries
keep one owner; later calls only fill in values.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from django.db import connection
from django.db.models import Field, Model, QuerySet
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    get_related_populators,
)

R = TypeVar("R")
Read = Callable[[Any], Any]
Value: TypeAlias = str | int | Sequence[int]

_FIRST_PLACE = 2_131_990_000
"""Values no caller means, and small enough for every column of whole numbers: they show where in
the SQL the real ones belong."""
_PLACE = re.compile(r"%%|%s")
_HOLDER = re.compile(r"%%|%s|\b21319900\d\d\b")


class Prepared(Generic[R]):
    """`build` makes the queryset; it is called once, with places for the arguments it names.

    A place may be compared with a column of text or of whole numbers, or be the end of a slice;
    never None. The only one of a list, as in `pk__in=[keys]`, stands for all of it. Rows come as
    the queryset would give them, model instances or tuples. `reads` says how columns of these kinds
    of field are read instead of as the field does.
    """

    def __init__(
        self,
        build: Callable[..., QuerySet[Any, R]],
        *,
        reads: Mapping[type[Field[Any, Any]], Read] | None = None,
    ) -> None:
        self._build = build
        self._reads = dict(reads or {})
        self._names = tuple(inspect.signature(build).parameters)
        self._written: dict[str, _Written] = {}
        self._lock = threading.Lock()

    def all(self, **values: Value) -> list[R]:
        """The rows, for a value for every place; for a list, one that is not empty."""
        written = self._written.get(connection.vendor) or self._write()
        with keeping_plans() as cursor:
            cursor.execute(*written.filled(values))
            rows = cursor.fetchall()
        return list(written.read(rows))

    def first(self, **values: Value) -> R | None:
        rows = self.all(**values)
        return rows[0] if rows else None

    def _write(self) -> _Written:
        with self._lock:
            places = {name: _FIRST_PLACE + index for index, name in enumerate(self._names)}
            queryset = self._build(**places)
            names = {str(place): name for name, place in places.items()}
            written = _Written(queryset, names, self._reads)
            self._written[connection.vendor] = written
            return written


class _Written:
    """SQL, what fills its places, and how its rows are read."""

    def __init__(
        self, queryset: QuerySet[Any, Any], names: Mapping[str, str], reads: Mapping[Any, Read]
    ) -> None:
        self._compiler = queryset.query.get_compiler(connection=connection)
        sql, given = self._compiler.as_sql()
        fixed = iter(given)
        self._slots: list[tuple[str | None, Any]] = []
        """For each parameter the argument's name, or None and a constant."""

        def holder(match: re.Match[str]) -> str:
            if match[0] == "%%":
                return "%%"
            value = next(fixed) if match[0] == "%s" else match[0]
            self._slots.append((names.get(str(value)), value))
            return "%s"

        self._sql = _HOLDER.sub(holder, sql)
        missing = set(names.values()) - {name for name, _ in self._slots}
        if missing:
            raise TypeError(f"The query has no place for {', '.join(sorted(missing))}.")
        self._readers = self._converters(reads)
        self._rows_as = queryset._iterable_class

    def filled(self, values: Mapping[str, Value]) -> tuple[str, list[Any]]:
        """The SQL, with as many places as lists need, and what is in them."""
        sql = self._sql
        holders: list[str] = []
        parameters: list[Any] = []
        for name, fixed in self._slots:
            value = [fixed] if name is None else values[name]
            given = value if isinstance(value, list | tuple) else [value]
            holders.append(", ".join(["%s"] * len(given)))
            parameters += given
        if len(parameters) != len(self._slots):
            rest = iter(holders)
            sql = _PLACE.sub(lambda match: match[0] if match[0] == "%%" else next(rest), sql)
        return sql, parameters

    def read(self, rows: Sequence[Any]) -> Iterator[Any]:
        converted = map(tuple, self._converted(rows) if self._readers else rows)
        if issubclass(self._rows_as, ModelIterable):
            return self._as_instances(converted)
        if issubclass(self._rows_as, FlatValuesListIterable):
            return (row[0] for row in converted)
        return converted

    def _converted(self, rows: Sequence[Any]) -> Iterator[list[Any]]:
        for row in rows:
            values = list(row)
            for position, reader in self._readers:
                values[position] = reader(values[position])
            yield values

    def _converters(self, reads: Mapping[Any, Read]) -> list[tuple[int, Read]]:
        expressions = [column[0] for column in self._compiler.select]
        usual = self._compiler.get_converters(expressions)
        readers: list[tuple[int, Read]] = []
        for position, expression in enumerate(expressions):
            reader = reads.get(type(expression.output_field))
            if reader is None and position in usual:
                reader = _chained(*usual[position])
            if reader is not None:
                readers.append((position, reader))
        return readers

    def _as_instances(self, rows: Iterator[Any]) -> Iterator[Model]:
        """As Django's own ModelIterable does it."""
        info, select = self._compiler.klass_info, self._compiler.select
        start, end = info["select_fields"][0], info["select_fields"][-1] + 1
        attributes = [column[0].target.attname for column in select[start:end]]
        # Its type is that of a later Django.
        related = cast(Any, get_related_populators)(info, select, connection.alias)
        extra = self._compiler.annotation_col_map or {}
        for row in rows:
            instance = info["model"].from_db(connection.alias, attributes, row[start:end])
            for populator in related:
                populator.populate(row, instance)
            for name, position in extra.items():
                setattr(instance, name, row[position])
            yield instance


def _chained(converters: Sequence[Callable[..., Any]], expression: Any) -> Read:
    def read(value: Any) -> Any:
        for converter in converters:
            value = converter(value, expression, connection)
        return value

    return read


def keeping_plans() -> Any:
    """A cursor; on PostgreSQL one that binds values on the server, so that plans can be kept as
    well as SQL: `prepare_threshold` in the database's options says after how many calls."""
    if connection.vendor != "postgresql":
        return connection.cursor()
    from psycopg import Cursor

    connection.ensure_connection()
    cursor: Any = Cursor(connection.connection)
    return (
        connection.make_debug_cursor(cursor)
        if connection.queries_logged
        else connection.make_cursor(cursor)
    )
