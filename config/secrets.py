"""Secrets that one machine needs and nobody should have to invent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet


def generated_secret(path: Path, *, fernet: bool = False) -> str:
    """Return the secret kept in `path`, making it (mode 600) on first use.

    Two processes may start together: a whole file is linked into place, so the first one wins
    and both read the same secret.
    """
    if not path.exists():
        secret = Fernet.generate_key().decode() if fernet else secrets.token_urlsafe(50)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
