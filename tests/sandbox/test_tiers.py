"""Which tier is chosen, how that is found out, and what is said when there is none."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from assistant_manager.sandbox import (
    SandboxUnavailable,
    TierReport,
    bubblewrap,
    choice,
    landlock,
    launch,
    probe,
    seccomp,
)
from assistant_manager.sandbox.bubblewrap import Bubblewrap
from assistant_manager.sandbox.folder import Area
from assistant_manager.sandbox.inside.main import refuse_root
from assistant_manager.sandbox.landlock import Landlock
from assistant_manager.sandbox.syscalls import MACHINES
from tests.sandbox import offered
from tests.sandbox.host import Host


def test_each_tier_that_the_system_offers_passes_the_probe(tier: str) -> None:
    began = time.monotonic()
    (report,) = probe(tier)  # type: ignore[arg-type]
    took = time.monotonic() - began

    assert report.works, report.reason
    assert (report.tier, "solved 3x + 11 = 14" in report.reason) == (tier, True)
    assert 10 < report.milliseconds <= took * 1000


def test_the_probe_reports_every_tier_and_agrees_with_the_system() -> None:
    reports = probe()

    assert [report.tier for report in reports] == ["bubblewrap", "landlock"]
    assert [report.tier for report in reports if report.works] == list(offered.tiers())
    assert all(report.reason for report in reports)


def test_the_first_tier_that_works_is_used_or_the_refusal_names_them_all(
    host: Host, make_sandbox
) -> None:
    sandbox = make_sandbox()

    if offered.tiers():
        assert host.do(sandbox.ready()) == offered.tiers()[0]
    else:
        with pytest.raises(SandboxUnavailable, match=r"bubblewrap: .*; landlock: "):
            host.do(sandbox.ready())


def test_a_pinned_tier_is_used(host: Host, make_sandbox, tier: str) -> None:
    assert host.do(make_sandbox(tier=tier).ready()) == tier


def test_a_pinned_tier_that_is_missing_is_not_replaced_by_another(
    host: Host, make_sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bubblewrap, "missing", lambda self: "the bwrap program is not installed")

    with pytest.raises(SandboxUnavailable) as refusal:
        host.run(make_sandbox(tier="bubblewrap"), "s", "1")

    assert "bubblewrap: the bwrap program is not installed" in str(refusal.value)
    assert "landlock" not in str(refusal.value)


def test_without_bubblewrap_landlock_is_used(
    host: Host, make_sandbox, monkeypatch: pytest.MonkeyPatch, only_landlock: str
) -> None:
    monkeypatch.setattr(Bubblewrap, "missing", lambda self: "not installed")

    assert host.do(make_sandbox().ready()) == "landlock"


def test_where_nothing_works_code_is_refused_with_the_reasons_and_a_remedy(
    host: Host, make_sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bubblewrap, "missing", lambda self: "not installed")
    monkeypatch.setattr(Landlock, "missing", lambda self: "switched off")

    with pytest.raises(SandboxUnavailable) as refusal:
        host.run(make_sandbox(), "s", "1")

    assert str(refusal.value) == (
        "Code cannot be run: no sandbox works on this machine (bubblewrap: not installed; "
        "landlock: switched off). Install bubblewrap and allow user namespaces, or use a Linux "
        "kernel with Landlock (5.13 or later)."
    )


def test_the_tier_none_runs_nothing(host: Host, make_sandbox) -> None:
    with pytest.raises(SandboxUnavailable, match="the sandbox is switched off"):
        host.run(make_sandbox(tier="none"), "s", "1")

    assert probe("none") == []


def test_a_refusal_is_remembered_for_a_minute_and_then_asked_again(
    host: Host, make_sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = []

    async def examine(tier: launch.Tier, area: object) -> TierReport:
        probed.append(tier.name)
        return TierReport(tier.name, False, "no", 1.0)

    monkeypatch.setattr(choice, "examine", examine)
    sandbox = make_sandbox(tier="landlock")

    def refused() -> None:
        with pytest.raises(SandboxUnavailable):
            host.run(sandbox, "s", "1")

    refused()
    refused()
    assert probed == ["landlock"]
    monkeypatch.setattr(choice, "_ASK_AGAIN", 0.0)
    refused()
    assert probed == ["landlock", "landlock"]


@pytest.mark.parametrize(
    ("host_file", "said"),
    [("/etc", "read the user list"), ("/tmp", "read a file of the host")],
)
def test_bubblewrap_with_a_hole_fails_the_probe(
    monkeypatch: pytest.MonkeyPatch, only_bubblewrap: str, host_file: str, said: str
) -> None:
    bound = bubblewrap._bound

    def with_a_hole(how: str, source: Path, target: str) -> list[str]:
        hole = ["--ro-bind", host_file, host_file] if target == launch.WORK else []
        return [*bound(how, source, target), *hole]

    monkeypatch.setattr(bubblewrap, "_bound", with_a_hole)

    (report,) = probe("bubblewrap")

    assert (report.works, report.reason) == (False, f"code in there could {said}")


def test_landlock_with_a_hole_fails_the_probe(
    monkeypatch: pytest.MonkeyPatch, only_landlock: str
) -> None:
    rules = landlock._rules
    monkeypatch.setattr(landlock, "_rules", lambda *a: [*rules(*a), ("/etc", "read")])

    (report,) = probe("landlock")

    assert (report.works, report.reason) == (False, "code in there could read the user list")


@pytest.mark.parametrize(
    ("call", "x86", "arm64", "said"),
    [("socket", 41, 198, "open a socket"), ("chmod", 90, 53, "change file modes")],
)
def test_a_filter_with_a_hole_fails_the_probe(
    monkeypatch: pytest.MonkeyPatch,
    only_landlock: str,
    call: str,
    x86: int,
    arm64: int,
    said: str,
) -> None:
    machine = platform.machine()
    numbers = {**MACHINES[machine].numbers, call: x86 if machine == "x86_64" else arm64}
    monkeypatch.setattr(seccomp, "MACHINES", {machine: replace(MACHINES[machine], numbers=numbers)})
    monkeypatch.setattr(seccomp, "_ALLOWED", f"{seccomp._ALLOWED} {call}")

    (report,) = probe("landlock")

    assert (report.works, report.reason) == (False, f"code in there could {said}")


def test_a_machine_without_a_table_of_calls_is_refused_clearly(
    monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    (report,) = probe(tier)  # type: ignore[arg-type]

    assert report.reason == "no table of system calls for riscv64 processors"


def test_root_who_cannot_become_another_user_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """As in a container that maps a single user."""
    refusal = OSError(22, "Invalid argument")
    monkeypatch.setattr("os.chown", Mock(side_effect=refusal))
    monkeypatch.setattr(sys.modules[Area.__module__], "_open_to_others", lambda path: True)
    monkeypatch.setattr(sys.modules["assistant_manager.sandbox.probe"], "drops_to", lambda: 65123)

    (report,) = probe(tier)  # type: ignore[arg-type]

    assert report.works is False
    assert "cannot become user 65123 here (Invalid argument)" in report.reason
    assert "start the worker as an ordinary user" in report.reason


def test_a_folder_that_cannot_be_made_is_a_reason_for_every_tier(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    reports = probe(work_dir=tmp_path / "file" / "work")

    assert [report.works for report in reports] == [False, False]
    assert all("the sandbox's folder is unusable" in report.reason for report in reports)


def test_a_kernel_that_is_still_root_refuses_to_run_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getresuid", lambda: (65123, 65123, 0))

    with pytest.raises(PermissionError, match="as root"):
        refuse_root()
