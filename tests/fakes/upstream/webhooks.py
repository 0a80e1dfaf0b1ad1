"""Signed events about background responses that have ended."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import aiohttp

from tests.fakes.upstream.call import new_id

PATIENCE = aiohttp.ClientTimeout(total=60)


class Webhooks:
    def __init__(self) -> None:
        self.reset()
        self.session: aiohttp.ClientSession | None = None
        self.underway: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        self.url: str | None = None
        self.deliveries: list[dict[str, Any]] = []

    def subscribe(self, url: str, secret: str, repeat: int = 1, drop: int = 0) -> None:
        """Each event is sent `repeat` times; the first `drop` events are lost."""
        self.url, self.secret, self.repeat, self.drop = url, secret, repeat, drop

    def announce(self, response_id: str, status: str) -> None:
        if self.url is None:
            return
        if self.drop:
            self.drop -= 1
            return
        task = asyncio.create_task(self.deliver(response_id, status))
        self.underway.add(task)
        task.add_done_callback(self.underway.discard)

    async def deliver(self, response_id: str, status: str) -> None:
        url, sent, now = self.url or "", self.deliveries, int(time.time())
        event = {
            "object": "event",
            "id": new_id("evt_"),
            "type": f"response.{status}",
            "created_at": now,
            "data": {"id": response_id},
        }
        body, id = json.dumps(event).encode(), new_id("wh_")
        headers = {"Content-Type": "application/json", **sign(self.secret, id, now, body)}
        for _ in range(self.repeat):
            sent.append({**event, "status": await self.post(url, body, headers)})

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int | None:
        """The answer's status. None: nobody answered."""
        if self.session is None:
            # A line kept open would keep a thread of the server that is told, and its database.
            hanging_up = aiohttp.TCPConnector(force_close=True)
            self.session = aiohttp.ClientSession(timeout=PATIENCE, connector=hanging_up)
        try:
            async with self.session.post(url, data=body, headers=headers) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def close(self) -> None:
        for task in self.underway:
            task.cancel()
        if self.session is not None:
            await self.session.close()


def sign(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The vendor's headers: an HMAC with the part of the secret behind `whsec_`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
