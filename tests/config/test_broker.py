"""The queue in a folder, as a killed process or a slow one leaves it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection, Exchange, Queue


@pytest.fixture
def queue() -> Queue:
    """One of its own for each test: kombu remembers in the process what has been bound."""
    name = uuid.uuid4().hex
    return Queue(name, Exchange(name), routing_key=name)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Connection]:
    folders = {"data_folder_in": "messages", "data_folder_out": "messages"}
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    options = {option: str(tmp_path / name) for option, name in folders.items()}
    options["control_folder"] = str(tmp_path / "control")
    with Connection(
        transport="config.broker:Transport", hostname="localhost", transport_options=options
    ) as connection:
        yield connection


def put(broker: Connection, queue: Queue, body: str) -> None:
    broker.Producer().publish(
        body, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue]
    )


def take(broker: Connection, queue: Queue) -> str:
    message = queue.bind(broker.default_channel).get(no_ack=True)
    if message is None:
        raise Empty
    return str(message.payload)


def test_what_is_put_is_taken_once(broker: Connection, queue: Queue, tmp_path: Path) -> None:
    put(broker, queue, "first")
    assert take(broker, queue) == "first"
    with pytest.raises(Empty):
        take(broker, queue)
    assert list((tmp_path / "messages").iterdir()) == []


def test_a_message_half_written_ends_no_worker(
    broker: Connection, queue: Queue, tmp_path: Path
) -> None:
    put(broker, queue, "first")
    (tmp_path / "messages" / f"0_{uuid.uuid4()}.{queue.name}.msg").write_text('{"body": "ha')
    with pytest.raises(Empty):
        take(broker, queue)
    assert take(broker, queue) == "first"


def test_a_table_left_empty_is_written_anew(
    broker: Connection, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "control" / f"{queue.name}.exchange").touch()
    put(broker, queue, "first")
    assert take(broker, queue) == "first"


def test_a_message_that_is_being_written_is_not_seen(broker: Connection, queue: Queue) -> None:
    """Two writers and two readers: kombu's own reader comes upon empty files here."""
    count = 300
    seen: list[str] = []
    trouble: list[Exception] = []

    def write(name: str) -> None:
        with broker.clone() as connection:
            for number in range(count):
                put(connection, queue, f"{name}-{number}")

    def read() -> None:
        with broker.clone() as connection:
            while any(writer.is_alive() for writer in writers):
                drain(connection)

    def drain(connection: Connection) -> None:
        try:
            seen.append(take(connection, queue))
        except Empty:
            pass
        except Exception as error:
            trouble.append(error)

    put(broker, queue, "declared")
    assert take(broker, queue) == "declared"
    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in [*writers, *readers]:
        thread.start()
    for thread in [*writers, *readers]:
        thread.join()
    for _ in range(2 * count):
        drain(broker)
    assert trouble == []
    assert sorted(seen) == sorted(f"{name}-{number}" for name in "ab" for number in range(count))
