"""The files of a turn: pictures for the model, and what its code may open."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from assistant_manager.engines.base import Turn, TurnFile
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.sandbox import Files, Limits

MOST_BYTES, MOST_FILES = Limits().work_bytes // 2, Limits().work_files // 2
"""Files given to code leave it at least as much room for its own."""
MOST_PICTURE_BYTES = 50 * 2**20
"""All are in memory, and in every request; the vendor takes no more either."""
LONGEST_NAME = 200  # bytes; file systems take 255, and an id may have to go before it
SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_ODD = re.compile(r"[^\w.\- ()]+")


async def pictures_of(turn: Turn, options: ChatOptions) -> dict[str, str]:
    """Every picture that users sent as a file, as a data URL by our id. Raises Rejected where
    the model sees none, or one is gone."""
    parts = [
        part for message in turn.messages if message.role == "user" for part in message.content
    ]
    if not options.images and any(part["type"] != "text" for part in parts):
        raise Rejected(
            "The thread has pictures, which the model of this connection cannot see.",
            code="invalid_prompt",
        )
    ids = {part["image_file"]["file_id"] for part in parts if part["type"] == "image_file"}
    if gone := sorted(ids - turn.files.keys()):
        raise Rejected(f"The picture {gone[0]} has been deleted.", code="invalid_prompt")
    total = sum(turn.files[id].size for id in ids)
    if total > MOST_PICTURE_BYTES:
        raise Rejected(
            f"The pictures of the thread have {_mib(total)} MiB together; at most "
            f"{_mib(MOST_PICTURE_BYTES)} can be sent.",
            code="invalid_prompt",
        )
    return {id: await asyncio.to_thread(_data_url, turn.files[id]) for id in sorted(ids)}


def code_files(turn: Turn) -> Files:
    """What the code interpreter may open, each under a name of its own; what has been deleted is
    not there any more. Raises Rejected."""
    ids = dict.fromkeys(_ids_for_code(turn))
    files = [turn.files[id] for id in ids if id in turn.files]
    total = sum(file.size for file in files)
    if total > MOST_BYTES or len(files) > MOST_FILES:
        raise Rejected(
            f"The code interpreter was given {len(files)} files of {_mib(total)} MiB together; it "
            f"takes {MOST_FILES} of {_mib(MOST_BYTES)} MiB.",
            code="invalid_prompt",
        )
    named: dict[str, Callable[[], bytes]] = {}
    for file in files:
        name = _file_name(file)
        while name in named:
            name = f"{file.id}-{name}"
        named[name] = partial(_read, file)
    return named


def _file_name(file: TurnFile) -> str:
    """A name that leads nowhere and that file systems take, with the ending it came with."""
    name = PurePosixPath(_ODD.sub("_", file.filename).lstrip(".") or file.id)
    ending = name.suffix[:20]
    room = LONGEST_NAME - len(ending.encode())
    return name.stem.encode()[:room].decode(errors="ignore") + ending


def _mib(size: int) -> int:
    """Rounded up, so that too much never looks like enough."""
    return -(-size // 2**20)


def _ids_for_code(turn: Turn) -> Iterator[str]:
    yield from (turn.tool_resources.get("code_interpreter") or {}).get("file_ids") or ()
    for message in turn.messages:
        for attachment in message.attachments:
            tools = attachment.get("tools") or ()
            if any(tool["type"] == "code_interpreter" for tool in tools):
                yield attachment["file_id"]


def _read(file: TurnFile) -> bytes:
    try:
        return file.read()
    except OSError:
        raise Rejected(f"The file “{file.filename}” cannot be read.") from None


def _data_url(file: TurnFile) -> str:
    content = _read(file)
    for signature, media_type in SIGNATURES.items():
        if content.startswith(signature):
            return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    raise Rejected(
        f"The file “{file.filename}” is no PNG, JPEG, GIF or WebP picture.", code="invalid_prompt"
    )
