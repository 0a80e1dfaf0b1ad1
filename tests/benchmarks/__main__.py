"""`make bench`: the figures of docs/benchmarks.md, measured on this machine, as one page.

Works in a folder of its own with the embedded parts. DATABASE_URL and REDIS_URL choose others: there
it works in a database and a queue of its own.
"""

from __future__ import annotations

import importlib
import inspect
import os
import platform
import shutil
import signal
import tempfile
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

PARTS = (*("throughput", "steady", "holding", "designs", "rest", "killed", "startup"),)
"""In this order, each a module beside this one."""
MORE = ("answers", "upstreams", "soak")
"""Only when asked for by name."""
LOG = Path(tempfile.gettempdir(), "assistant-manager-bench.log")
"""What the processes of the last run said."""


def main() -> None:
    parser = ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS + MORE))
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the questions")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the soak")
    parser.add_argument("--graph", type=Path, default=Path("soak.svg"), help="of the soak")
    options = parser.parse_args()
    if unknown := set(options.parts) - {*PARTS, *MORE}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="assistant-manager-bench-") as folder:
        os.environ["DATA_DIR"] = folder
        os.environ["REDIS_PREFIX"] = Path(folder).name
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        database = Path(folder).name.replace("-", "_")
        in_server = "DATABASE_URL" in os.environ
        os.environ["TEST_DATABASE_NAME"] = database if in_server else f"{folder}/db.sqlite3"
        os.environ["LOG_LEVEL"] = "WARNING"
        _allow_many_files()
        # Told to stop, it stops what it has started, as Ctrl-C has it do.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        if in_server:
            _in_the_server(f'CREATE DATABASE "{database}"')
        call_command("migrate", verbosity=0)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        broker = "Redis" if os.environ.get("REDIS_URL") else "broker on files"
        print(
            f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} "
            f"{platform.release()}, Python {platform.python_version()}, {connection.vendor}, "
            f"{broker}, load {os.getloadavg()[0]:.1f}\n"
        )
        log = Path(folder) / "processes.log"
        try:
            missing = [name for name in options.parts or PARTS if not _measured(name, log, options)]
        finally:
            if log.exists():
                shutil.copy(log, LOG)
            if in_server:
                connection.close()
                _in_the_server(f'DROP DATABASE "{database}" WITH (FORCE)')
            _forget_queues(os.environ["REDIS_PREFIX"])
    if missing:
        raise SystemExit(f"No figures of {', '.join(missing)}; {LOG} may say why.")


def _measured(name: str, log: Path, options: Namespace) -> bool:
    """Print that part's table; False where it breaks off."""
    from django.utils import timezone

    from conversations.models import Run, RunStatus
    from tests.benchmarks.table import print_table

    # What an earlier part has left undone is not this one's business.
    Run.objects.active().update(
        **{"status": RunStatus.CANCELLED, "ended_at": timezone.now(), "due_at": None},
        **{"expires_at": None, "leased_by": None, "lease_expires_at": None},
    )
    part = importlib.import_module(f"tests.benchmarks.{name}")
    taken = set(inspect.signature(part.measure).parameters)
    chosen = {name: value for name, value in vars(options).items() if name in taken}
    try:
        print_table(part.TITLE, part.COLUMNS, part.measure(log, **chosen))
    except SystemExit as failure:
        print(f"\n**{name} came to nothing: {failure}**\n", flush=True)
        return False
    return True


def _forget_queues(prefix: str) -> None:
    """Leave nothing behind in a Redis that others use as well."""
    if url := os.environ.get("REDIS_URL"):
        import redis

        with redis.Redis.from_url(url) as server:
            for key in server.scan_iter(f"*{prefix}*"):
                server.delete(key)


def _in_the_server(statement: str) -> None:
    """Beside the database that DATABASE_URL names, which stays as it is."""
    import psycopg

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        server.execute(statement.encode())


def _allow_many_files() -> None:
    """Ten thousand sockets are more than most systems grant unasked; children inherit this."""
    with suppress(ImportError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
