"""Does a tier work here? Found out by running it: start, try what must be refused, solve.

A tier that is installed proves nothing: containers and distributions switch off user namespaces,
Landlock or both. So a kernel is started with a secret lying beside its work folder, and has to
fail at everything on a list before it may solve an equation.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from assistant_manager.sandbox.bubblewrap import Bubblewrap
from assistant_manager.sandbox.folder import Area
from assistant_manager.sandbox.kernel import Kernel
from assistant_manager.sandbox.landlock import Landlock
from assistant_manager.sandbox.launch import Tier, drops_to
from assistant_manager.sandbox.values import KernelFailed, Limits, TierReport

TierName = Literal["auto", "bubblewrap", "landlock", "none"]

TIERS: Mapping[str, Tier] = {tier.name: tier for tier in (Bubblewrap(), Landlock())}

_PROBE_SECONDS = 60.0  # a tier that works is not to be given up because the machine is busy

# Each line must raise. `secret` is a file beside the work folder, `host` our process id.
_FORBIDDEN = {
    "read a file of the host": "open(secret)",
    "read the user list": "open('/etc/passwd')",
    "list the host's root folder": "assert set(os.listdir('/')) - neutral",
    "read another process's environment": "open(f'/proc/{host}/environ')",
    "write outside its work folder": "open('/tmp/probe', 'w')",
    "start a process": "os.fork()",
    "execute a program": "os.execv('/bin/true', ['true'])",
    "open a socket": "socket.socket()",
    "signal another process": "os.kill(os.getppid(), 0)",
    "change file modes": "os.chmod('.', 0o777)",
    "take more memory than allowed": "bytearray(1 << 50)",
    "be root": "assert 0 in os.getresuid()",
    "see the host's environment": "os.environ['PATH']",
}
_SOLVE = "from sympy import Symbol, solve; x = Symbol('x'); solve(3*x + 11 - 14, x)"


def probe(tier: TierName = "auto", *, work_dir: Path | None = None) -> list[TierReport]:
    """Try the tiers that `tier` stands for; slow (about a second each). For `doctor`.

    Not to be called from a running event loop; there, await `examine`.
    """
    with contextlib.ExitStack() as stack:
        if work_dir is None:
            work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            area = Area(work_dir, owner=drops_to())
        except OSError as error:
            reason = f"the sandbox's folder is unusable ({error})"
            return [TierReport(each.name, False, reason, 0.0) for each in candidates(tier)]
        stack.callback(area.close)

        async def all_of_them() -> list[TierReport]:
            return [await examine(candidate, area) for candidate in candidates(tier)]

        return asyncio.run(all_of_them())


def candidates(tier: TierName) -> list[Tier]:
    """The tiers to try, best first."""
    if tier == "none":
        return []
    return list(TIERS.values()) if tier == "auto" else [TIERS[tier]]


async def examine(tier: Tier, area: Area) -> TierReport:
    """Run the probe on one tier. Never raises for a tier that does not work."""
    started = time.monotonic()
    works, reason = False, tier.missing()
    if reason is None:
        try:
            reason = await _first_failure(tier, area)
            works = reason is None
        except (KernelFailed, OSError) as error:
            reason = str(error)
    milliseconds = (time.monotonic() - started) * 1000
    reason = (
        reason or f"started, was refused {len(_FORBIDDEN)} forbidden things, solved 3x + 11 = 14"
    )
    return TierReport(tier.name, works, reason, milliseconds)


async def _first_failure(tier: Tier, area: Area) -> str | None:
    secret = area.path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    limits = Limits(wall_seconds=_PROBE_SECONDS, start_seconds=_PROBE_SECONDS)
    kernel = await Kernel.start(tier, area.folder(), limits)
    try:
        result = await kernel.run(_attempts(secret), fresh=False)
        if result.outcome != "ok":
            return f"the probe itself failed: {result.text}"
        if result.stdout:
            return f"code in there could {result.stdout.splitlines()[0]}"
        result = await kernel.run(_SOLVE, fresh=False)
        return None if result.value == "[1]" else f"could not solve 3x + 11 = 14: {result.text}"
    finally:
        await kernel.close()


def _attempts(secret: Path) -> str:
    """Code that prints the name of every forbidden thing that it could do."""
    return f"""
import os, socket
secret, host = {str(secret)!r}, os.getppid()
neutral = {{'python', 'packages', 'kernel', 'mnt', 'dev', 'lib', 'lib64', 'usr', 'etc', 'nix'}}
for name, code in {dict(_FORBIDDEN)!r}.items():
    try:
        exec(code)
    except Exception:
        continue
    print(name)
"""
