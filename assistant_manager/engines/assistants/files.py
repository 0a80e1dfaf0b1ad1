"""Files on their way: ours up, once a connection, and those that code wrote down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from assistant_manager.engines.assistants import requests
from assistant_manager.engines.assistants.wire import Missing, Wire
from assistant_manager.engines.base import GeneratedFile, Turn, TurnFile
from assistant_manager.engines.exceptions import Rejected, Unavailable

logger = logging.getLogger(__name__)

LONGEST_NAME = 255  # characters


async def upload(wire: Wire, turn: Turn, *, again: bool = False) -> dict[str, str]:
    """Have the turn's files at the upstream: its ids by ours. `again` also those that it had."""
    copies = {}
    for id, shown in requests.needed(turn).items():
        file = turn.files.get(id)
        if file is None:  # deleted since it was named
            continue
        if file.upstream_id and not again:
            copies[id] = file.upstream_id
        else:
            purpose = "vision" if shown and _knows_vision(wire) else "assistants"
            copies[id] = await wire.upload(file.filename, await _read(file), purpose)
    return copies


def fresh(turn: Turn, copies: dict[str, str]) -> dict[str, str]:
    """Those of `copies` that the rows do not know yet."""
    return {id: copy for id, copy in copies.items() if turn.files[id].upstream_id != copy}


def _knows_vision(wire: Wire) -> bool:
    """OpenAI's own door does; the versions of Azure have a list without it."""
    return not wire.client.info.api_version


async def _read(file: TurnFile) -> bytes:
    try:
        return await asyncio.to_thread(file.read)
    except FileNotFoundError as error:
        raise Rejected(f"The file “{file.filename}” has lost its content.") from error


class Downloads:
    """The files that one attempt's code wrote; each is fetched once. `may_wait` False: what cannot
    be had just now is left out too."""

    def __init__(self, wire: Wire, *, may_wait: bool) -> None:
        self._wire = wire
        self._may_wait = may_wait
        self._files: dict[str, GeneratedFile] = {}

    @property
    def ids(self) -> list[str]:
        return sorted(self._files)

    def get(self, id: str) -> GeneratedFile | None:
        """None for a file that the upstream no longer has, or does not give away."""
        return self._files.get(id)

    async def fetch(self, ids: Iterable[str], *, pictures: bool = False) -> None:
        for id in ids:
            if id not in self._files:
                try:
                    self._files[id] = await self._fetch(id, picture=pictures)
                except (Missing, Rejected, Unavailable) as trouble:
                    if self._may_wait and isinstance(trouble, Unavailable):
                        raise
                    logger.warning("The file %s could not be fetched: %s", id, trouble)

    async def _fetch(self, id: str, *, picture: bool) -> GeneratedFile:
        content = await self._wire.content(id)
        if picture:
            return GeneratedFile(f"{id}.png", content)
        name = str((await self._wire.get(f"/files/{id}")).get("filename") or "")
        return GeneratedFile(name.rsplit("/", 1)[-1][-LONGEST_NAME:] or id, content)
