"""REST framework, without two packages that it imports where it finds them and we never use.

`requests` serves its test client, PostgreSQL's own fields serve columns we do not have. Together
they took a fifth of the web server's start and 15 MiB of it.
"""

from __future__ import annotations

import sys
import threading
from importlib.abc import MetaPathFinder

UNUSED = ("requests", "django.contrib.postgres")


class _Missing(MetaPathFinder):
    """For one thread, as if these packages were not installed; others may want them meanwhile."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in UNUSED and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is left out on purpose", name=name)
        return


_missing = _Missing()
sys.meta_path.insert(0, _missing)
try:
    import rest_framework.compat  # noqa: F401 - this is the module that looks for them
finally:
    sys.meta_path.remove(_missing)
