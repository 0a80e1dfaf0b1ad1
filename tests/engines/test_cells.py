"""Engines that run code share one sandbox, and leave it as they found it."""

from __future__ import annotations

import asyncio

import pytest

from assistant_manager.engines.cells import Workplace
from assistant_manager.sandbox import Sandbox, SandboxUnavailable
from tests.engines.conftest import Await


async def six(workplace: Workplace) -> str | None:
    return (await workplace.open().run("session", "2 * 3")).value


def test_the_sandbox_of_a_loop_is_shared_and_closed_with_the_last_that_used_it() -> None:
    async def both() -> None:
        one, two = Workplace(), Workplace()
        sandbox = one.open()
        assert two.open() is sandbox
        assert await six(one) == "6"
        await one.close()
        await one.close()
        assert await six(two) == "6"
        await two.close()
        with pytest.raises(SandboxUnavailable, match="closed"):
            await sandbox.run("session", "1")

    asyncio.run(both())


def test_after_the_last_has_closed_another_sandbox_is_made() -> None:
    async def twice() -> None:
        for _ in range(2):
            workplace = Workplace()
            assert await six(workplace) == "6"
            await workplace.close()

    asyncio.run(twice())


def test_each_event_loop_has_a_sandbox_of_its_own() -> None:
    async def opened() -> Sandbox:
        workplace = Workplace()
        sandbox = workplace.open()
        await workplace.close()
        return sandbox

    assert asyncio.run(opened()) is not asyncio.run(opened())


def test_a_sandbox_that_was_given_is_its_givers_to_close(sandbox: Sandbox, wait_for: Await) -> None:
    workplace = Workplace(sandbox)
    wait_for(workplace.close())
    assert wait_for(sandbox.run("given", "2 * 3")).value == "6"


def test_closing_what_was_never_opened_is_fine() -> None:
    asyncio.run(Workplace().close())
