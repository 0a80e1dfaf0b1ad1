"""Files on their way to the upstream: each once a connection."""

from __future__ import annotations

import asyncio
import base64
import logging
import mimetypes
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

from assistant_manager.engines.base import Json, Turn, TurnFile, TurnMessage
from assistant_manager.engines.clients import UPLOAD_SECONDS, Client, patience
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.engines.responses.options import purpose_of, sends_file_ids

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import VectorStore

logger = logging.getLogger(__name__)

CONTAINER_FILES_AT_MOST = 50
REMEMBERED = 10_000
"""Copies and vector stores that a process keeps in mind."""
STORE_DAYS = 1
"""A vector store goes by itself that long after its last use."""
INDEXING_SECONDS = 60.0
"""How long a start waits for new files to be indexed before the run waits instead."""
INDEXING_PACE = (0.1, 0.2, 0.5, 1.0)

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Material:
    """What of the turn's files the upstream has. `images`: how each file shown is named in the
    request; `copies`: all that were used, its id by ours."""

    images: Mapping[str, Json] = field(default_factory=dict)
    code_files: Sequence[str] = ()
    store: str | None = None
    copies: Mapping[str, str] = field(default_factory=dict)


class _Recent(Generic[K]):
    """A dict that forgets what was used longest ago."""

    def __init__(self) -> None:
        self._rows: OrderedDict[K, str] = OrderedDict()

    def get(self, key: K) -> str | None:
        if key in self._rows:
            self._rows.move_to_end(key)
        return self._rows.get(key)

    def put(self, key: K, value: str) -> None:
        self._rows[key] = value
        self._rows.move_to_end(key)
        if len(self._rows) > REMEMBERED:
            self._rows.popitem(last=False)

    def pop(self, key: K) -> str:
        return self._rows.pop(key)

    def items(self) -> Iterable[tuple[K, str]]:
        return self._rows.items()


class Files:
    """What this process knows of the files at its connections. The rows know more, as they
    outlive it, but only once an attempt has been recorded."""

    def __init__(self) -> None:
        self._copies: _Recent[tuple[int, str]] = _Recent()
        self._stores: _Recent[tuple[int, frozenset[str]]] = _Recent()
        self._gone: set[str] = set()
        self._locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def ready(self, client: Client, turn: Turn, messages: Iterable[TurnMessage]) -> Material:
        """Bring everything to the upstream that the turn's request will name, with the pictures
        of those `messages` that are sent. A file of ours that has been deleted is left out."""
        used: dict[str, str] = {}
        images = {
            id: await self._image(client, turn.files[id], used)
            for id in _shown(messages)
            if id in turn.files
        }
        code, searched = _for_tool(turn, "code_interpreter"), _for_tool(turn, "file_search")
        for id in {**dict.fromkeys(code), **dict.fromkeys(searched)}:
            used[id] = await self._copy(client, turn.files[id])
        return Material(
            images=images,
            code_files=[used[id] for id in code][-CONTAINER_FILES_AT_MOST:],
            store=await self._store(client, [used[id] for id in searched]) if searched else None,
            copies=used,
        )

    def forget_named(self, refusal: str, connection: int, renewed: set[str]) -> bool:
        """The upstream's refusal names files or a vector store that it no longer has: they are
        made anew, once each. `renewed` remembers which for one start. False: none is named."""
        copies = {id: key for key, id in self._copies.items() if key[0] == connection}
        named = {id for id in copies if id in refusal and copies[id][1] not in renewed}
        stores = [key for key, id in self._stores.items() if id in refusal and id not in renewed]
        renewed |= {copies[id][1] for id in named}
        self._gone |= named
        for key in stores:
            renewed.add(self._stores.pop(key))
        return bool(named or stores)

    def ours(self, connection: int) -> dict[str, str]:
        """Our ids by the upstream's, as far as this process remembers."""
        return {copy: id for (at, id), copy in self._copies.items() if at == connection}

    async def _image(self, client: Client, file: TurnFile, used: dict[str, str]) -> Json:
        if sends_file_ids(client.info):
            used[file.id] = await self._copy(client, file)
            return {"file_id": used[file.id]}
        kind = mimetypes.guess_type(file.filename)[0] or "image/png"
        content = base64.b64encode(await _content(file)).decode()
        return {"image_url": f"data:{kind};base64,{content}"}

    async def _copy(self, client: Client, file: TurnFile) -> str:
        """The upstream's id of `file`, which is uploaded where the connection has no copy."""
        key = client.info.id, file.id
        # Runs that start together share one upload.
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._copies.get(key) or file.upstream_id
            if known is None or known in self._gone:
                known = await _uploaded(client, file)
            self._copies.put(key, known)
        return known

    async def _store(self, client: Client, copies: Sequence[str]) -> str:
        """A vector store of these files, indexed."""
        key = client.info.id, frozenset(copies)
        id = self._stores.get(key)
        if id is None:
            store = await client.call(
                lambda sdk: sdk.vector_stores.create(
                    name="Attachments of a thread",
                    file_ids=list(dict.fromkeys(copies)),
                    expires_after={"anchor": "last_active_at", "days": STORE_DAYS},
                )
            )
            id = store.id
            self._stores.put(key, id)
        await self._indexed(client, id)
        return id

    async def _indexed(self, client: Client, id: str) -> None:
        """Wait, in bounded time. A file that cannot be indexed is not found, no more."""

        async def look(sdk: AsyncOpenAI) -> VectorStore:
            return await sdk.vector_stores.retrieve(id)

        waited, looks = 0.0, 0
        while (store := await client.call(look)).status == "in_progress":
            if waited > INDEXING_SECONDS:
                raise Unavailable(f"“{client.info.name}” is still reading the attached files.")
            pause = INDEXING_PACE[min(looks, len(INDEXING_PACE) - 1)]
            await asyncio.sleep(pause)
            waited, looks = waited + pause, looks + 1
        if store.file_counts and store.file_counts.failed:
            failed = store.file_counts.failed
            logger.warning("“%s” could not index %d attached files", client.info.name, failed)


def _shown(messages: Iterable[TurnMessage]) -> list[str]:
    """Files that messages of users show, newest last, each once."""
    ids = (
        part["image_file"]["file_id"]
        for message in messages
        if message.role == "user"
        for part in message.content
        if part["type"] == "image_file"
    )
    return list(dict.fromkeys(ids))


def _for_tool(turn: Turn, tool: str) -> list[str]:
    """Files that this tool of the assistant may use, newest last: of its resources, and attached."""
    if not any(offered["type"] == tool for offered in turn.tools):
        return []
    ids = list((turn.tool_resources.get(tool) or {}).get("file_ids") or ())
    ids += [
        attachment["file_id"]
        for message in turn.messages
        for attachment in message.attachments
        if any(wanted["type"] == tool for wanted in attachment.get("tools") or ())
    ]
    return [id for id in dict.fromkeys(ids) if id in turn.files]


async def _uploaded(client: Client, file: TurnFile) -> str:
    content = await _content(file)
    uploaded = await client.call(
        lambda sdk: sdk.files.create(
            file=(file.filename, content),
            purpose=purpose_of(client.info),
            timeout=patience(UPLOAD_SECONDS),
        )
    )
    return uploaded.id


async def _content(file: TurnFile) -> bytes:
    try:
        return await asyncio.to_thread(file.read)
    except FileNotFoundError as error:
        raise Rejected(f"The file “{file.filename}” is no longer stored here.") from error
