"""Programs that ask: each puts a question over REST, waits for the answer, reads it and asks anew.

A process of its own, without Django. Prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from contextlib import suppress
from typing import Any

import aiohttp

ENDED = ("completed", "failed", "expired", "cancelled", "incomplete")
MARGIN = 0.05
"""Seconds that a program waits longer than an answer usually takes, before it looks."""
PAUSE = 0.1
"""Seconds between two looks from there on."""


class Askers:
    def __init__(self, session: aiohttp.ClientSession, options: Namespace) -> None:
        self.session = session
        self.options = options
        self.counts: Counter[str] = Counter()
        self.took: list[float] = []
        self.counting = False

    async def run(self) -> dict[str, Any]:
        count, usual = self.options.askers, self.options.usual
        tasks = [asyncio.create_task(self._ask(number, count)) for number in range(count)]
        await asyncio.sleep(self.options.warm_up)
        self.counting, began = True, time.monotonic()
        await asyncio.sleep(self.options.seconds)
        self.counting = False
        seconds = time.monotonic() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {"seconds": seconds, "usual": usual, "took": self.took, **self.counts}

    async def _ask(self, number: int, count: int) -> None:
        # All at the same moment is how no two thousand programs ever ask.
        await asyncio.sleep(self.options.usual * number / count)
        while True:
            try:
                await self._one()
            except (aiohttp.ClientError, KeyError, ValueError) as error:
                self._count(f"error: {type(error).__name__}")
                await asyncio.sleep(1)

    async def _one(self) -> None:
        began = time.monotonic()
        thread = (await self._call("POST", "threads", {}))["id"]
        question = {"role": "user", "content": "I need to solve `3x + 11 = 14`."}
        await self._call("POST", f"threads/{thread}/messages", question)
        asked = {"assistant_id": self.options.assistant}
        run = await self._call("POST", f"threads/{thread}/runs", asked)
        await asyncio.sleep(self.options.usual + MARGIN)
        while run["status"] not in ENDED:
            run = await self._call("GET", f"threads/{thread}/runs/{run['id']}")
            if run["status"] not in ENDED:
                await asyncio.sleep(PAUSE)
        messages = await self._call("GET", f"threads/{thread}/messages")
        if messages["data"][0]["role"] != "assistant":
            self._count("without an answer")
            return
        self._count("answers")
        if self.counting:
            self.took.append(time.monotonic() - began)

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        self._count("requests")
        async with self.session.request(method, f"/v1/{path}", json=body) as reply:
            if reply.status != 200:
                self._count(f"status {reply.status}")
                reply.raise_for_status()
            return await reply.json()

    def _count(self, name: str) -> None:
        self.counts[name] += self.counting


async def _main(options: Namespace) -> None:
    headers = {"Authorization": f"Bearer {options.key}", "OpenAI-Beta": "assistants=v2"}
    connector = aiohttp.TCPConnector(limit=options.connections)
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{options.port}",
        connector=connector,
        headers=headers,
        timeout=aiohttp.ClientTimeout(None),
    ) as session:
        print(json.dumps(await Askers(session, options).run()))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    for name in ("key", "assistant"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("port", "askers", "connections"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("usual", "warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    with suppress(ImportError):  # not on Windows
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
