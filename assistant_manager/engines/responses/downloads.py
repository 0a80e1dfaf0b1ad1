"""What code has written at the upstream, fetched as long as it is there: containers end soon."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assistant_manager.engines.base import GeneratedFile
from assistant_manager.engines.clients import UPLOAD_SECONDS, Client, patience
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.engines.responses.output import Wanted

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

LARGEST_PICTURE = 20 * 2**20
ELSEWHERE_SECONDS = 30.0
"""For a whole picture, however slowly it comes."""


async def fetched(
    client: Client, wanted: Sequence[Wanted], *, may_wait: bool
) -> dict[str, GeneratedFile]:
    """The files by their id or address. What cannot be had any more, or never could, is left out.

    Raises Unavailable where asking again may help; with `may_wait` False that is left out too.
    """
    if not wanted:  # as nearly always: no need for the library
        return {}
    import httpx2

    files = {}
    for one in wanted:
        try:
            content = await _fetched(client, one)
        except (Rejected, Unavailable, ValueError, httpx2.InvalidURL) as trouble:
            if may_wait and isinstance(trouble, Unavailable):
                raise
            logger.warning("The file “%s” could not be fetched: %s", one.name, trouble)
            continue
        files[one.id] = GeneratedFile(one.name, content)
    return files


async def _fetched(client: Client, one: Wanted) -> bytes:
    scheme, host, *_ = urlsplit(one.id)
    if scheme == "data":
        return base64.b64decode(one.id.partition(",")[2], validate=True)
    if host and (scheme, host) != urlsplit(client.info.base_url)[:2]:
        return await _from_elsewhere(one)

    async def read(sdk: AsyncOpenAI) -> bytes:
        from openai import HttpxBinaryResponseContent

        if host:
            found = await sdk.get(one.id, cast_to=HttpxBinaryResponseContent)
        elif one.container:
            found = await sdk.containers.files.content.retrieve(
                one.id, container_id=one.container, timeout=patience(UPLOAD_SECONDS)
            )
        else:
            found = await sdk.files.content(one.id, timeout=patience(UPLOAD_SECONDS))
        return found.content

    return await client.call(read)


async def _from_elsewhere(one: Wanted) -> bytes:
    """A picture on a server of the upstream's choice: that one never sees a key of ours, and must
    have a certificate, which machines of our own network seldom do."""
    import httpx2

    if not one.id.startswith("https://"):
        raise Rejected("Its address is not one to fetch from.")
    content = bytearray()
    try:
        async with (
            asyncio.timeout(ELSEWHERE_SECONDS),
            httpx2.AsyncClient(timeout=ELSEWHERE_SECONDS) as web,
            web.stream("GET", one.id) as reply,
        ):
            if reply.status_code != httpx2.codes.OK:
                raise Rejected(f"Its server answered with HTTP {reply.status_code}.")
            async for chunk in reply.aiter_bytes():
                content += chunk
                if len(content) > LARGEST_PICTURE:
                    raise Rejected("It is too large for a picture.")
    except (httpx2.HTTPError, TimeoutError) as error:
        raise Unavailable("A picture of the answer cannot be fetched.") from error
    return bytes(content)
