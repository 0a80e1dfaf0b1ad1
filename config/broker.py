"""Celery's queue in a folder, such that a message or a table that is only half written is never
read: kombu's own lets a reader see the file before its writer has filled it, and the worker that
reads it ends with an error; a table left empty by a killed process would end all that follow."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def get_table(self, exchange: str) -> list[Any]:
        try:
            table: list[Any] = super().get_table(exchange)
        except ValueError:
            return []  # what is bound is bound again by the next to start
        return table

    def _queue_bind(
        self, exchange: str, routing_key: str | None, pattern: str | None, queue: str
    ) -> None:
        bound = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        self.control_folder.mkdir(exist_ok=True)
        with self._one_at_a_time():
            table = self.get_table(exchange)
            if bound not in table:
                file = self._exchange_file(exchange)  # type: ignore[attr-defined]
                _write(file, dumps([bound, *table]))

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        _write(Path(self.data_folder_out, name), dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        try:
            return super()._get(queue)
        except ValueError:
            raise Empty from None  # it has been taken away, and no task counts on its message

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with (self.control_folder / "lock").open("w") as file:
            filesystem.lock(file, filesystem.LOCK_EX)  # type: ignore[attr-defined]
            yield


class Transport(filesystem.Transport):
    Channel = Channel


def _write(file: Path, text: str) -> None:
    """Whole, or not at all."""
    beside = file.with_name(f".{uuid.uuid4()}")
    beside.write_text(text)
    beside.replace(file)
