"""`manage.py quickstart`: everything on this machine, with nothing but pip."""

from __future__ import annotations

import http.client
import time
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections
from django.utils import timezone

from assistant_manager.demo import Demo, ensure_demo, ensure_key
from conversations.management import first_question
from conversations.management.introduction import KEY_FILE, introduction, try_sandbox
from conversations.management.keeper import become_keeper
from conversations.management.only_one import AlreadyRunning, only_one
from conversations.management.ports import HOST, NoFreePort, reserved_port
from conversations.management.stopping import Stopping
from conversations.management.supervisor import Child, Supervisor
from conversations.models import DriverHeartbeat

PATIENCE = 180.0
"""Seconds both children have to be ready in. Two are usual; a very busy machine has taken fifty."""
LOGS = settings.DATA_DIR / "logs"


class Command(BaseCommand):
    help = (
        "Set up and start everything on this machine: database, demo data, web server and "
        "worker. Prints a sign-in link, an API key and a curl line. Ctrl-C stops it all."
    )

    requires_system_checks = []  # They run while the worker starts.

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the next free one if taken")
        parser.add_argument(
            "--no-demo",
            action="store_false",
            dest="demo",
            help="add no demo user, assistants or API key",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="ask one question, wait for the answer, stop; exit 0 if it came",
        )

    def handle(self, *, port: int, demo: bool, check: bool, **options: Any) -> None:
        # What Python and Django took before us is nearly all CPU, so its CPU time is its duration.
        began = time.monotonic() - time.process_time()
        if check and not demo:
            raise CommandError("--check asks the demo assistant, so it cannot go with --no-demo.")
        try:
            with (
                only_one(settings.DATA_DIR / "quickstart.lock") as note,
                Stopping() as stopping,
                reserved_port(port) as port,
            ):
                note(f"http://{HOST}:{port}")
                self._run(port, demo, check, began, stopping)
        except AlreadyRunning as other:
            raise CommandError(
                f"A quickstart is already running in {settings.DATA_DIR} ({other}). "
                "Stop it first, or give this one another DATA_DIR."
            ) from other
        except NoFreePort as error:
            raise CommandError(f"{error} Choose another with --port.") from error

    def _run(
        self, port: int, with_demo: bool, check: bool, began: float, stopping: Stopping
    ) -> None:
        settings.STATIC_ROOT.mkdir(exist_ok=True)
        with ThreadPoolExecutor(1) as pool, Supervisor(self._say) as supervisor:
            # Neither needs a table to start, so they start while the tables are made.
            supervisor.start(web(port))
            tiers = pool.submit(try_sandbox)
            self._migrate()
            demo = ensure_demo() if with_demo else None
            launched = timezone.now()
            supervisor.start(worker())
            self.check()
            self._wait_until_ready(supervisor, port, launched, stopping)
            if check and demo and not stopping.asked:
                self._check(port, demo)
                return
            if not stopping.asked:
                self._say(introduction(f"http://{HOST}:{port}", demo, tiers.result()))
                self._say(f"\n  Ready in {time.monotonic() - began:.1f} s. Ctrl-C stops it all.")
                pool.shutdown()
                connections.close_all()
                become_keeper(supervisor, stopping, folder=settings.BASE_DIR)
            self._say("\nStopping.")

    def _migrate(self) -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
        except OperationalError as error:
            raise CommandError(f"The database cannot be used: {error}".strip()) from error

    def _wait_until_ready(
        self, supervisor: Supervisor, port: int, launched: datetime, stopping: Stopping
    ) -> None:
        """Return when web and worker are ready, or somebody wants us to stop."""
        waiting: dict[str, Callable[[], bool]] = {
            "web": lambda: web_answers(port),
            "worker": lambda: DriverHeartbeat.objects.filter(started_at__gte=launched).exists(),
        }
        deadline = time.monotonic() + PATIENCE
        while waiting and not stopping.asked:
            for child in supervisor.children:
                news = child.tend(time.monotonic())
                late = child.name in waiting and time.monotonic() > deadline
                if news or late:
                    reason = news or f"The {child.name} is not ready after {PATIENCE:g} s."
                    raise CommandError(f"{reason} The end of {child.log}:\n{child.last_words()}")
                if child.name in waiting and waiting[child.name]():
                    del waiting[child.name]
            time.sleep(0.05)

    def _check(self, port: int, demo: Demo) -> None:
        if demo.assistant is None:
            raise CommandError("There is no assistant to ask: all were retired.")
        token = ensure_key(KEY_FILE)
        self._say(f"Question: {first_question.QUESTION}")
        try:
            answer = first_question.ask(
                port=port, token=token, assistant_id=demo.assistant.public_id
            )
        except (first_question.Unanswered, OSError, http.client.HTTPException) as error:
            raise CommandError(f"No answer: {error}") from error
        self._say(f"Answer:   {answer}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def web(port: int) -> Child:
    arguments = ["granian", "--interface", "rsgi", "--no-ws", "--host", HOST, "--port", str(port)]
    arguments += ["--workers", "1", "--workers-kill-timeout", "3", "--access-log"]
    arguments += [settings.RSGI_APPLICATION]
    return Child("web", arguments, folder=settings.BASE_DIR, log=LOGS / "web.log")


def worker() -> Child:
    return Child(
        "worker",
        ["config.worker"],
        folder=settings.BASE_DIR,
        log=LOGS / "worker.log",
        environment={"CELERY_SKIP_CHECKS": "1"},  # we run them ourselves meanwhile
    )


def web_answers(port: int) -> bool:
    try:
        first_question.call(port, "GET", "/healthz")
    except (OSError, http.client.HTTPException, first_question.Unanswered):
        return False
    return True
