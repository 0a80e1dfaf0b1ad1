"""What the tests themselves are held to."""

from __future__ import annotations

import os
import socket

import pytest

from config.celery import app


def test_a_test_cannot_call_anybody_outside_this_machine() -> None:
    with socket.socket() as line, pytest.raises(RuntimeError, match=r"connect to 203\.0\.113\.1"):
        line.connect(("203.0.113.1", 443))


def test_a_test_cannot_take_a_task_of_another_suite() -> None:
    assert app.conf.task_default_queue == os.environ["REDIS_PREFIX"] != "assistant_manager"
