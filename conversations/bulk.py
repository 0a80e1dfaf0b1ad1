"""Rows written without the ORM's query building, which costs many times what the database does.

Columns, and how values become the database's, are those of the models: nothing is named here. What
the ORM adds on saving is left out: no signals are sent, and keys are read back only by `add_all`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, cast

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models import Field, Model

from assistant_manager.models.prepared import keeping_plans

Fields: TypeAlias = Sequence["Field[Any, Any]"]


def insert(rows: Sequence[Model]) -> None:
    """Store new rows of one model."""
    if rows:
        sql, fields = _insert(type(rows[0]))
        _run_many(sql, [values(row, fields) for row in rows])


def add(row: Model) -> None:
    """Store a new row, and tell it its key."""
    add_all([row])


def add_all(rows: Sequence[Model]) -> None:
    """Store new rows of one model, and tell each its key."""
    if not rows:
        return
    sql, fields = _insert(type(rows[0]), len(rows))
    with keeping_plans() if len(rows) == 1 else connection.cursor() as cursor:
        given = [value for row in rows for value in values(row, fields)]
        cursor.execute(f"{sql} RETURNING {_quoted('id')}", given)
        # Both databases return them in the order given, which the ORM relies on as well.
        keys = cursor.fetchall()
    for row, (key,) in zip(rows, keys, strict=True):
        row.pk = key
        row._state.adding, row._state.db = False, connection.alias


def update(rows: Sequence[Model], names: tuple[str, ...]) -> None:
    """Store these fields of rows of one model, each found by its key."""
    if rows:
        sql, fields = _update(type(rows[0]), names)
        _run_many(sql, [values(row, fields) for row in rows])


def change(model: type[Model], where: Mapping[str, Any], **new: Any) -> int:
    """Store `new` in the rows that have all of `where`, plain values or tuples of them; returns how
    many that were."""
    with connection.cursor() as cursor:
        cursor.execute(*_changing(model, where, new))
        return int(cursor.rowcount)


def change_and_tell(
    model: type[Model], where: Mapping[str, Any], tell: tuple[str, ...], **new: Any
) -> list[tuple[Any, ...]]:
    """As `change`; returns these fields of each row, as the database has them."""
    sql, given = _changing(model, where, new)
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING {columns(fields_of(model, *tell))}", given)
        return list(cursor.fetchall())


def _changing(
    model: type[Model], where: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[str, list[Any]]:
    lengths = tuple((name, len(of) if isinstance(of, tuple) else 0) for name, of in where.items())
    sql, fields = _change(model, tuple(new), lengths)
    given = [*new.values()]
    for of in where.values():
        given += of if isinstance(of, tuple) else [of]
    return sql, prepared(fields, given)


@cache
def fields_of(model: type[Model], *names: str) -> Fields:
    return tuple(cast("Field[Any, Any]", model._meta.get_field(name)) for name in names)


def columns(fields: Fields) -> str:
    """Quoted, with commas."""
    return ", ".join(_column(field) for field in fields)


def values(row: Model, fields: Fields) -> list[Any]:
    """What the database is given for these fields."""
    return prepared(fields, [getattr(row, field.attname) for field in fields])


def prepared(fields: Fields, values: Sequence[Any]) -> list[Any]:
    """`values` of these fields as the database is given them."""
    # Not `connection`, which looks itself up at each of the many questions fields ask of it.
    here = connections[DEFAULT_DB_ALIAS]
    return [
        field.get_db_prep_save(value, connection=here)
        for field, value in zip(fields, values, strict=True)
    ]


def _run_many(sql: str, rows: Sequence[Sequence[Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(sql, rows)


# No value ever becomes part of a statement, only names that models declare.


@cache
def _insert(model: type[Model], rows: int = 1) -> tuple[str, Fields]:
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    places = ", ".join([f"({', '.join(['%s'] * len(fields))})"] * rows)
    return f"INSERT INTO {table(model)} ({columns(fields)}) VALUES {places}", fields  # noqa: S608


@cache
def _update(model: type[Model], names: tuple[str, ...]) -> tuple[str, Fields]:
    fields = [*fields_of(model, *names), *fields_of(model, "id")]
    *sets, key = [f"{_column(field)} = %s" for field in fields]
    return f"UPDATE {table(model)} SET {', '.join(sets)} WHERE {key}", fields  # noqa: S608


@cache
def _change(
    model: type[Model], names: tuple[str, ...], where: tuple[tuple[str, int], ...]
) -> tuple[str, Fields]:
    fields = list(fields_of(model, *names))
    sets = ", ".join(f"{_column(field)} = %s" for field in fields)
    conditions = []
    for name, length in where:
        of_one = [*fields_of(model, name)] * (length or 1)
        places = f"IN ({', '.join(['%s'] * length)})" if length else "= %s"
        conditions.append(f"{_column(of_one[0])} {places}")
        fields += of_one
    return f"UPDATE {table(model)} SET {sets} WHERE {' AND '.join(conditions)}", fields  # noqa: S608


def table(model: type[Model]) -> str:
    return _quoted(model._meta.db_table)


def _column(field: Field[Any, Any]) -> str:
    return _quoted(str(field.column))


def _quoted(name: str) -> str:
    return str(connection.ops.quote_name(name))
