"""Secrets at rest and in hand: encrypted in the database, unprintable in the program."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

ENVIRONMENT_PREFIX = "env:"


class SecretUnreadable(Exception):
    """The stored text was encrypted with a key that FIELD_ENCRYPTION_KEYS no longer holds."""


class Secret:
    """A text that does not show itself in logs, tracebacks, templates or JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; `env:NAME` is looked up in the environment ("" where unset)."""
        value = self._value
        if value.startswith(ENVIRONMENT_PREFIX):
            return settings.READ_ENVIRONMENT(value.removeprefix(ENVIRONMENT_PREFIX)) or ""
        return value

    @property
    def stored(self) -> str:
        """What was typed in: the text to encrypt, `env:NAME` as it is."""
        return self._value

    @property
    def hint(self) -> str:
        """Enough for a person to tell two secrets apart: the last four characters."""
        if self._value.startswith(ENVIRONMENT_PREFIX):
            return self._value
        return f"…{self._value[-4:]}" if len(self._value) >= 12 else "set" if self._value else ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return "••••" if self else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


class SealedSecret(Secret):
    """A secret as the database holds it, decrypted when it is needed: a row can be read by those
    who need no key, also where FIELD_ENCRYPTION_KEYS cannot open it. Then any other use raises
    SecretUnreadable."""

    __slots__ = ("_sealed",)

    def __init__(self, sealed: str) -> None:
        self._sealed = sealed

    @property
    def _value(self) -> str:  # type: ignore[override]
        try:
            return _cipher().decrypt(self._sealed.encode()).decode()
        except InvalidToken as error:
            raise SecretUnreadable(
                "A stored key cannot be decrypted: FIELD_ENCRYPTION_KEYS lacks the key it was "
                "encrypted with."
            ) from error

    def __bool__(self) -> bool:
        return True


if TYPE_CHECKING:
    _TextField = models.TextField[Secret | str, Secret]
else:
    _TextField = models.TextField


def _cipher() -> MultiFernet:
    return _cipher_with(tuple(settings.FIELD_ENCRYPTION_KEYS))


@lru_cache(maxsize=1)
def _cipher_with(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


class SecretField(_TextField):
    """A `Secret`, encrypted in the column with the first of FIELD_ENCRYPTION_KEYS."""

    def from_db_value(self, value: str | None, *_: Any) -> Secret:
        return SealedSecret(value) if value else Secret("")

    def to_python(self, value: Any) -> Secret:
        return value if isinstance(value, Secret) else Secret(value or "")

    def get_prep_value(self, value: Any) -> str:
        secret = self.to_python(value)
        return _cipher().encrypt(secret.stored.encode()).decode() if secret else ""

    def value_to_string(self, obj: models.Model) -> str:
        """Dumps carry the cipher text's owner, never the secret."""
        return ""
