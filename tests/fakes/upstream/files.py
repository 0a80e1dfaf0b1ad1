"""Files, vector stores and the files that containers leave behind."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.upstream import schema
from tests.fakes.upstream.call import Call, Refused, listed, new_id, not_found, reply

if TYPE_CHECKING:
    from tests.fakes.upstream.server import Upstream
    from tests.fakes.upstream.state import State

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M/wHwAEBgIApD5fRAAAAABJRU5ErkJggg=="
)
INDEXING = 0.15
"""Seconds a vector store needs for new files."""


@dataclass(slots=True)
class File:
    body: dict[str, Any]
    content: bytes


@dataclass(slots=True)
class VectorStore:
    body: dict[str, Any]
    file_ids: list[str] = field(default_factory=list)
    ready_at: float = 0.0

    @property
    def status(self) -> str:
        return "completed" if time.time() >= self.ready_at else "in_progress"

    def add(self, file_ids: list[str]) -> None:
        self.file_ids += file_ids
        self.ready_at = time.time() + INDEXING if file_ids else 0.0

    def counts(self) -> dict[str, int]:
        done, total = self.status == "completed", len(self.file_ids)
        return {
            "in_progress": 0 if done else total,
            "completed": total if done else 0,
            "failed": 0,
            "cancelled": 0,
            "total": total,
        }

    def read(self) -> dict[str, Any]:
        return {**self.body, "status": self.status, "file_counts": self.counts()}

    def read_file(self, id: str) -> dict[str, Any]:
        return {
            "id": id,
            "object": "vector_store.file",
            "created_at": self.body["created_at"],
            "usage_bytes": 0,
            "vector_store_id": self.body["id"],
            "status": self.status,
            "last_error": None,
        }


def keep(state: State, name: str, content: bytes, purpose: str, prefix: str = "file-") -> File:
    body: dict[str, Any] = {
        "id": new_id(prefix),
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }
    file = state.files[body["id"]] = File(body, content)
    return file


def generate(state: State, name: str, prefix: str) -> File:
    """A file such as model-written code leaves behind."""
    content = PNG if name.endswith(".png") else f"The contents of {name}\n".encode()
    return keep(state, name, content, "assistants_output", prefix)


def find(state: State, id: str) -> File:
    if id not in state.files:
        raise not_found(id)
    return state.files[id]


def find_store(state: State, id: str) -> VectorStore:
    if id not in state.vector_stores:
        raise Refused(404, f"No vector store found with id '{id}'.")
    return state.vector_stores[id]


async def upload(upstream: Upstream, call: Call) -> web.Response:
    part = (call.body or {}).get("file")
    if not isinstance(part, web.FileField) or not call.body.get("purpose"):
        raise Refused(400, "'file' and 'purpose' are required properties")
    content = part.file.read()
    return reply(keep(upstream.state, part.filename, content, str(call.body["purpose"])).body)


async def retrieve(upstream: Upstream, call: Call) -> web.Response:
    return reply(find(upstream.state, call.ids[0]).body)


async def show_all(upstream: Upstream, call: Call) -> web.Response:
    rows = [file.body for file in upstream.state.files.values()]
    return listed(rows, call.request.query, limit=10_000)


async def content(upstream: Upstream, call: Call) -> web.Response:
    file = find(upstream.state, call.ids[-1])
    return web.Response(body=file.content, content_type="application/octet-stream")


async def delete(upstream: Upstream, call: Call) -> web.Response:
    find(upstream.state, call.ids[0])
    del upstream.state.files[call.ids[0]]
    return reply({"id": call.ids[0], "object": "file", "deleted": True})


async def create_store(upstream: Upstream, call: Call) -> web.Response:
    schema.check(call, "CreateVectorStoreRequest")
    asked = call.body or {}
    body: dict[str, Any] = {
        "id": new_id("vs_"),
        "object": "vector_store",
        "created_at": int(time.time()),
        "name": asked.get("name") or "",
        "usage_bytes": 0,
        "expires_after": asked.get("expires_after"),
        "expires_at": None,
        "last_active_at": int(time.time()),
        "metadata": asked.get("metadata") or {},
    }
    store = VectorStore(body)
    store.add(known(upstream.state, asked.get("file_ids") or []))
    upstream.state.vector_stores[body["id"]] = store
    return reply(store.read())


async def retrieve_store(upstream: Upstream, call: Call) -> web.Response:
    return reply(find_store(upstream.state, call.ids[0]).read())


async def delete_store(upstream: Upstream, call: Call) -> web.Response:
    find_store(upstream.state, call.ids[0])
    del upstream.state.vector_stores[call.ids[0]]
    return reply({"id": call.ids[0], "object": "vector_store.deleted", "deleted": True})


async def add_file(upstream: Upstream, call: Call) -> web.Response:
    store = find_store(upstream.state, call.ids[0])
    schema.check(call, "CreateVectorStoreFileRequest")
    store.add(known(upstream.state, [call.body["file_id"]]))
    return reply(store.read_file(call.body["file_id"]))


async def retrieve_file(upstream: Upstream, call: Call) -> web.Response:
    store = find_store(upstream.state, call.ids[0])
    if call.ids[1] not in store.file_ids:
        raise not_found(call.ids[1])
    return reply(store.read_file(call.ids[1]))


async def show_files(upstream: Upstream, call: Call) -> web.Response:
    store = find_store(upstream.state, call.ids[0])
    return listed([store.read_file(id) for id in store.file_ids], call.request.query)


async def remove_file(upstream: Upstream, call: Call) -> web.Response:
    store = find_store(upstream.state, call.ids[0])
    store.file_ids = [id for id in store.file_ids if id != call.ids[1]]
    return reply({"id": call.ids[1], "object": "vector_store.file.deleted", "deleted": True})


async def add_batch(upstream: Upstream, call: Call) -> web.Response:
    store = find_store(upstream.state, call.ids[0])
    schema.check(call, "CreateVectorStoreFileBatchRequest")
    asked = call.body.get("file_ids") or [one["file_id"] for one in call.body.get("files") or ()]
    store.add(known(upstream.state, asked))
    return reply(batch(store, new_id("vsfb_")))


async def retrieve_batch(upstream: Upstream, call: Call) -> web.Response:
    return reply(batch(find_store(upstream.state, call.ids[0]), call.ids[1]))


def batch(store: VectorStore, id: str) -> dict[str, Any]:
    """One answer for all batches of a store: they are ready together."""
    return {
        "id": id,
        "object": "vector_store.files_batch",
        "created_at": store.body["created_at"],
        "vector_store_id": store.body["id"],
        "status": store.status,
        "file_counts": store.counts(),
    }


def known(state: State, file_ids: list[str]) -> list[str]:
    for id in file_ids:
        find(state, id)
    return file_ids


ROUTES = {
    ("POST", "files"): upload,
    ("GET", "files"): show_all,
    ("GET", "files/*"): retrieve,
    ("GET", "files/*/content"): content,
    ("DELETE", "files/*"): delete,
    ("GET", "containers/*/files/*/content"): content,
    ("POST", "vector_stores"): create_store,
    ("GET", "vector_stores/*"): retrieve_store,
    ("DELETE", "vector_stores/*"): delete_store,
    ("POST", "vector_stores/*/files"): add_file,
    ("GET", "vector_stores/*/files"): show_files,
    ("GET", "vector_stores/*/files/*"): retrieve_file,
    ("DELETE", "vector_stores/*/files/*"): remove_file,
    ("POST", "vector_stores/*/file_batches"): add_batch,
    ("GET", "vector_stores/*/file_batches/*"): retrieve_batch,
}
