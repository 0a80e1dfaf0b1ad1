"""Which tier this process uses: probed once, and a refusal asked again only now and then."""

from __future__ import annotations

import asyncio
import time

from assistant_manager.sandbox.folder import Area
from assistant_manager.sandbox.launch import Tier
from assistant_manager.sandbox.probe import TierName, candidates, examine
from assistant_manager.sandbox.values import SandboxUnavailable, TierReport

_ASK_AGAIN = 60.0  # seconds before a machine without a working tier is probed again


class Choice:
    def __init__(self, wanted: TierName) -> None:
        self._wanted = wanted
        self._probing = asyncio.Lock()
        self._tier: Tier | None = None
        self._refusal: tuple[float, str] | None = None

    async def tier(self, area: Area) -> Tier:
        """The first tier that works. Raises SandboxUnavailable, from memory for a minute."""
        async with self._probing:
            if self._tier is None:
                self._raise_what_we_know()
                self._tier = await self._probe(area)
            return self._tier

    def doubt(self) -> None:
        """A kernel would not start although the probe once passed: probe before the next."""
        self._tier = None

    def _raise_what_we_know(self) -> None:
        if self._refusal is not None and time.monotonic() - self._refusal[0] < _ASK_AGAIN:
            raise SandboxUnavailable(self._refusal[1])

    async def _probe(self, area: Area) -> Tier:
        reports: list[TierReport] = []
        for tier in candidates(self._wanted):
            reports.append(await examine(tier, area))
            if reports[-1].works:
                return tier
        self._refusal = (time.monotonic(), refusal(reports))
        raise SandboxUnavailable(self._refusal[1])


def refusal(reports: list[TierReport]) -> str:
    """The sentence for people when no tier works."""
    if not reports:
        return (
            "Code cannot be run: the sandbox is switched off (tier “none”). "
            "Choose “auto”, “bubblewrap” or “landlock” to switch it on."
        )
    tried = "; ".join(f"{report.tier}: {report.reason}" for report in reports)
    return (
        f"Code cannot be run: no sandbox works on this machine ({tried}). Install bubblewrap and "
        "allow user namespaces, or use a Linux kernel with Landlock (5.13 or later)."
    )
