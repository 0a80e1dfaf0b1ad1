"""What an engine may raise. Each type says what the caller can do about it."""

from __future__ import annotations


class EngineError(Exception):
    """The engine could not do what was asked. The text is shown to people: no secrets, no tracebacks."""


class Unavailable(EngineError):
    """Nothing was decided; ask again.

    `retry_after` is in seconds; None leaves the wait to the caller. `code` is the
    `last_error.code` should the run expire while waiting.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, code: str = "server_error"
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code


class Rejected(EngineError):
    """Asking again would not help: the run fails with this text.

    `code` is one of the wire's `last_error.code` values: `server_error`,
    `rate_limit_exceeded`, `invalid_prompt`. `reason` and `parameter` are the upstream's own code
    and the part of the request it names, for the engine that can ask differently; "" where
    it does not say.
    """

    def __init__(
        self, message: str, *, code: str = "server_error", reason: str = "", parameter: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.parameter = parameter


class Expired(EngineError):
    """Upstream has forgotten this attempt: the run starts over with a new one."""


class Unknown(EngineError):
    """The reply was lost: nobody can say whether the upstream took the start. The driver goes on
    with a new attempt."""
