"""The code of one attempt: its kernel, the files it may open, and what ran before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from urllib.parse import unquote

from assistant_manager.engines.base import GeneratedFile, Item, ToolCallsItem, Turn
from assistant_manager.engines.chat.links import linked_files
from assistant_manager.engines.chat.material import code_files
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.sandbox import CellResult, Files, Limits, Sandbox, SandboxUnavailable

MOST_LINKED, MOST_LINKED_BYTES = 20, Limits().file_bytes
"""Of the files that one message hands over."""
MOST_PICTURE_BYTES = Limits().file_bytes
"""Of the pictures that one attempt keeps."""


class Notebook:
    """Every attempt and process has a kernel of its own, and may have to give it up to others. So
    cells that ran in an earlier one run again before the next, for their variables and files; what
    they print is known. Not so after a cell that ended its kernel itself, which the model is told.
    """

    def __init__(self, sandbox: Sandbox, turn: Turn) -> None:
        self._sandbox, self._turn = sandbox, turn
        self._session = f"{turn.run_id}:{turn.attempt}"
        self._picture_room = MOST_PICTURE_BYTES
        self._earlier = list(_sources([*turn.past, *turn.recorded]))
        self._ran: list[str] = []  # in the kernel of now

    @cached_property
    def files(self) -> Files:
        """By the names that code knows them by. Raises Rejected."""
        return code_files(self._turn)

    async def run(self, source: str) -> CellResult:
        """The result, without the pictures for which there is no room left."""
        await self._catch_up()
        result = await self._run(source)
        images = []
        for image in result.images:
            if len(image) <= self._picture_room:
                self._picture_room -= len(image)
                images.append(image)
        return replace(result, images=tuple(images))

    async def linked(self, text: str) -> dict[str, GeneratedFile]:
        """The files that code has left and `text` links, by the names its links have. No more of
        them than a process can hold: code may leave a thousand."""
        files: dict[str, GeneratedFile] = {}
        room = MOST_LINKED_BYTES
        for link in linked_files(text)[:MOST_LINKED]:
            name = unquote(link)
            await self._catch_up()
            content = await self._sandbox.fetch(self._session, name)
            if content is not None and len(content) <= room:
                files[link] = GeneratedFile(name, content)
                room -= len(content)
        return files

    async def forget(self) -> None:
        """Give the kernel back."""
        await self._sandbox.forget(self._session)

    async def _catch_up(self) -> None:
        if self._ran and not self._sandbox.remembers(self._session):
            self._earlier, self._ran = [*self._ran, *self._earlier], []
        while self._earlier:
            await self._run(self._earlier[0])
            del self._earlier[0]

    async def _run(self, source: str) -> CellResult:
        try:
            result = await self._sandbox.run(self._session, source, self.files)
        except SandboxUnavailable as unavailable:
            raise Rejected(str(unavailable)) from unavailable
        self._ran = [*self._ran, source] if self._sandbox.remembers(self._session) else []
        return result


def _sources(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item, ToolCallsItem):
            yield from (call.input for call in item.calls if call.type == "code_interpreter")
