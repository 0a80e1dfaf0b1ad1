"""Everything a service may refuse, typed once. Each door maps these to its own words.

The texts are the vendor's where the vendor has one, since programs match on them.
"""

from __future__ import annotations

from collections.abc import Sequence


class Refusal(Exception):
    """The request is understood and not possible now; nothing was changed."""


class ThreadBusy(Refusal):
    """Another run of the thread is active: no message may be added."""

    def __init__(self, thread_id: str, run_id: str) -> None:
        super().__init__(f"Can't add messages to {thread_id} while a run {run_id} is active.")


class RunActive(Refusal):
    """Another run of the thread is active: no second run may start."""

    def __init__(self, thread_id: str, run_id: str) -> None:
        super().__init__(f"Thread {thread_id} already has an active run {run_id}.")


class NotCancellable(Refusal):
    def __init__(self, status: str) -> None:
        super().__init__(f"Cannot cancel run with status '{status}'.")


class NoOutputsWanted(Refusal):
    """The run is not waiting for tool outputs."""

    def __init__(self, status: str) -> None:
        super().__init__(f'Runs in status "{status}" do not accept tool outputs.')


class WrongOutputs(Refusal):
    """All outputs come in one request, one for each call."""

    def __init__(self, expected: Sequence[str], got: Sequence[str]) -> None:
        super().__init__(f"Expected tool outputs for call_ids {list(expected)}, got {list(got)}")


class UnknownModel(Refusal):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model '{name}' does not exist here: no model of that name, and no default, "
            "leads to a connection."
        )


class AlreadyDecided(Refusal):
    """Somebody else's verdict came first, or the run ended while the page was open."""

    def __init__(self) -> None:
        super().__init__("This answer has been decided already; nothing was changed.")
