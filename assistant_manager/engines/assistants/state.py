"""What an attempt remembers between two looks, and leaves to the attempt that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from assistant_manager.engines.base import Json


@dataclass(frozen=True, slots=True)
class State:
    """Where upstream the attempt is. `run` is "" until the run is known to exist; `order` is what
    it is to be created with. `files` are our ids by the upstream's. `shows_code`: there may be code
    to show while it runs. `waits_for` is the step whose functions the client has to call: the next
    attempt hands in what they returned, and finds the last step told of in `after` and the tokens
    told of in `told`. `given_up` are runs of this thread that count no more, `made` files that code
    wrote there; `fetches` of them have failed."""

    thread: str
    assistant: str
    run: str = ""
    order: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    shows_code: bool = False
    waits_for: str = ""
    after: str = ""
    told: Mapping[str, int] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    fetches: int = 0

    @classmethod
    def read(cls, stored: Json) -> State | None:
        """None for what another engine left."""
        try:
            return cls(**stored)
        except TypeError:
            return None

    @property
    def runs(self) -> str:
        return f"/threads/{self.thread}/runs"

    def stored(self) -> dict[str, Any]:
        return asdict(self)
