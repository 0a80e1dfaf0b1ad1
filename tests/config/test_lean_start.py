"""What web and worker load at their start: each package that nobody asked for is waited for by all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.site import ROOT

UNASKED = {"requests", "jsonschema", "openai", "prompt_toolkit", "sympy", "azure"}


def loaded_by(*modules: str, data: Path) -> set[str]:
    source = f"import {', '.join(modules)}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules", [("config.rsgi", "config.urls"), ("config.worker", "celery.apps.worker")]
)
def test_what_few_need_is_not_loaded_at_the_start(modules: tuple[str, ...], tmp_path: Path) -> None:
    assert loaded_by(*modules, data=tmp_path) & UNASKED == set()


def test_what_rest_framework_goes_without_is_there_for_others(tmp_path: Path) -> None:
    loaded = loaded_by("config.rsgi", "config.urls", "requests", data=tmp_path)

    assert {"requests", "rest_framework"} <= loaded
