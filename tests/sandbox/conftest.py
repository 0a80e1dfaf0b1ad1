from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assistant_manager.sandbox import Limits, Sandbox
from assistant_manager.sandbox.folder import Area
from assistant_manager.sandbox.kernel import Kernel
from assistant_manager.sandbox.launch import drops_to
from assistant_manager.sandbox.probe import TIERS
from tests.sandbox import offered
from tests.sandbox.host import Host, Run

GENEROUS = Limits(wall_seconds=60)
"""For tests of something else than time: a busy machine stalls for seconds."""

MakeSandbox = Callable[..., Sandbox]
MakeRun = Callable[..., Run]

NONE = "none offered"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whoever asks for `tier` is run on each tier the operating system offers."""
    if "tier" in metafunc.fixturenames:
        metafunc.parametrize("tier", offered.tiers() or [NONE], scope="session")
    for name in ("bubblewrap", "landlock"):
        if f"only_{name}" in metafunc.fixturenames:
            offer = [name] if name in offered.tiers() else [NONE]
            metafunc.parametrize(f"only_{name}", offer)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the system offers no tier, say so by deselecting; test_tiers then tests the refusal."""
    impossible = [item for item in items if NONE in item.name]
    if impossible:
        config.hook.pytest_deselected(items=impossible)
        items[:] = [item for item in items if item not in impossible]


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture
def work_dir() -> Iterator[Path]:
    """A work directory that any user may walk into; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_sandbox(host: Host, work_dir: Path) -> Iterator[MakeSandbox]:
    """Sandbox(…) with a work_dir of its own, closed afterwards."""
    made: list[Sandbox] = []

    def make(**options: object) -> Sandbox:
        usual = {"work_dir": work_dir, "limits": GENEROUS, "spares": 0, "preload": ()}
        made.append(Sandbox(**{**usual, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for sandbox in made:
        host.do(sandbox.close())


@pytest.fixture(scope="session")
def shared_sandbox(host: Host, tier: str) -> Iterator[Sandbox]:
    """One sandbox a tier for all tests that need no special limits, so that it is probed once."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-tests-"))
    path.chmod(0o711)
    sandbox = Sandbox(work_dir=path, tier=tier, limits=GENEROUS, spares=0, preload=())  # type: ignore[arg-type]
    yield sandbox
    host.do(sandbox.close())
    shutil.rmtree(path)


@pytest.fixture
def make_run(host: Host, work_dir: Path, tier: str) -> Iterator[MakeRun]:
    """Start a kernel with limits of its own, without a sandbox around it; get a way to run cells."""
    area = Area(work_dir, owner=drops_to())
    kernels: list[Kernel] = []

    def make(**limits: float) -> Run:
        bounds = replace(GENEROUS, **limits)
        kernel = host.do(Kernel.start(TIERS[tier], area.folder(), bounds, preload=()))
        kernels.append(kernel)
        return lambda code: host.do(kernel.run(code, fresh=False))

    yield make
    for kernel in kernels:
        host.do(kernel.close())
    area.close()


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """Run a cell in a kernel that is this test's own."""
    return make_run()
