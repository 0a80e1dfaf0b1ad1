"""Where this machine keeps what a kernel may read: Python, its standard library, the packages."""

from __future__ import annotations

import functools
import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

OFFERED = ("sympy", "numpy", "pandas", "matplotlib")

# Shared libraries that extension modules of any Python need, and time zones. Programs, settings
# and user data live elsewhere.
_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/nix/store",
)


@dataclass(frozen=True, slots=True)
class Library:
    """`home` is what PYTHONHOME means; `lib` names its folders that hold the standard library."""

    executable: Path
    home: Path
    lib: tuple[str, ...]
    packages: tuple[Path, ...]
    system: tuple[Path, ...]
    inside: Path


@functools.cache
def library() -> Library:
    # The base interpreter, not the virtualenv's link to it, which means nothing in there.
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    home = Path(sys.base_prefix).resolve()
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    folders |= {str(Path(found).parent) for name in OFFERED if (found := _folder(name))}
    return Library(
        executable=executable,
        home=home,
        lib=tuple(name for name in ("lib", "lib64") if (home / name).is_dir()),
        packages=tuple(sorted({Path(f).resolve() for f in folders if Path(f).is_dir()})),
        system=tuple(Path(name) for name in _SYSTEM if Path(name).exists()),
        inside=Path(__file__).resolve().parent,
    )


def offered() -> tuple[str, ...]:
    """The libraries a cell can import, of those worth telling a model about."""
    return tuple(name for name in OFFERED if _folder(name))


def _folder(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    return str(Path(spec.origin).parent) if spec and spec.origin else None
