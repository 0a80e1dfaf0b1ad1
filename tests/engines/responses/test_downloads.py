"""Pictures of cells: inside the answer, at the upstream, or at a place of the upstream's choice."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openai import OpenAI

from assistant_manager.engines.base import ConnectionInfo
from assistant_manager.engines.clients import Clients
from assistant_manager.engines.responses import downloads
from assistant_manager.engines.responses.downloads import fetched
from assistant_manager.engines.responses.output import Wanted
from tests.engines.conftest import Await
from tests.fakes.upstream.files import PNG
from tests.fakes.upstream.running import Upstream


@pytest.fixture
def fetch(wait_for: Await, responses_connection: ConnectionInfo) -> Iterator[Any]:
    """The bytes behind an address; None where the answer goes without them."""
    clients = Clients()

    async def get(address: str) -> bytes | None:
        client = clients.of(responses_connection)
        files = await fetched(client, [Wanted(address, "plot.png")], may_wait=False)
        return files[address].content if files else None

    yield lambda address: wait_for(get(address))
    wait_for(clients.close())


class Pictures(BaseHTTPRequestHandler):
    """What lies on a server with a certificate."""

    def do_GET(self) -> None:
        content = PNG * 40 if self.path == "/large.png" else PNG
        self.send_response(302 if self.path == "/moved.png" else 200)
        self.send_header("Location", "/plot.png")
        self.end_headers()
        with suppress(OSError):  # nobody listens any more
            while self.path == "/slow.png" and not self.server.gone.wait(0.1):  # type: ignore[attr-defined]
                self.wfile.write(b"\0")
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose certificate is trusted."""
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    server.gone = threading.Event()  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.gone.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(pem))
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """An address on another port of this machine, and what was asked for there."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret", asked
    server.shutdown()
    server.server_close()


def test_a_picture_may_lie_inside_the_answer(fetch: Any) -> None:
    assert fetch(f"data:image/png;base64,{base64.b64encode(PNG).decode()}") == PNG


def test_a_picture_that_is_not_whole_is_left_out(fetch: Any) -> None:
    assert fetch("data:image/png;base64,iVBOR") is None


def test_a_picture_at_the_upstream_is_fetched_with_our_key(
    fetch: Any, upstream: Upstream, responses_connection: ConnectionInfo
) -> None:
    url = responses_connection.base_url
    client = OpenAI(base_url=url, api_key="sk-test-0001")
    file = client.files.create(file=("plot.png", PNG), purpose="user_data")
    assert fetch(f"{url}/files/{file.id}/content") == PNG
    assert fetch(f"{url}/files/file-unheard-of/content") is None


def test_no_other_machine_is_asked_without_a_certificate(
    fetch: Any, elsewhere: tuple[str, list[str]]
) -> None:
    address, asked = elsewhere
    assert fetch(address) is None
    assert fetch(address.replace("http:", "https:")) is None
    assert fetch("ftp://127.0.0.1/plot.png") is None
    assert asked == []


def test_a_picture_may_lie_at_a_server_of_the_upstreams_choice(fetch: Any, vendor: str) -> None:
    assert fetch(f"{vendor}/plot.png") == PNG


def test_that_server_sends_nobody_on(fetch: Any, vendor: str) -> None:
    assert fetch(f"{vendor}/moved.png") is None


def test_a_picture_beyond_all_bounds_is_left_out(
    fetch: Any, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LARGEST_PICTURE", len(PNG) * 10)
    assert fetch(f"{vendor}/large.png") is None
    assert fetch(f"{vendor}/plot.png") == PNG


def test_a_picture_that_comes_byte_by_byte_keeps_no_answer_waiting(
    fetch: Any, vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "ELSEWHERE_SECONDS", 1.0)
    assert fetch(f"{vendor}/slow.png") is None
