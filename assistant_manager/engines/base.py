"""The contract between the driver and every engine: a Turn goes in, Progress comes out.

All values are plain and immutable; tools, tool choices and content parts keep the
Assistants v2 wire shape, so that nothing is translated twice. Engines know no rows.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeAlias

from assistant_manager.engines.options import ConnectionOptions

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnMessage:
    """One released message of the thread, oldest first.

    `content` is the stored list of wire parts (`{"type": "text", "text": {"value": ...}}`).
    """

    role: Literal["user", "assistant"]
    content: Sequence[Json]
    attachments: Sequence[Json] = ()

    @property
    def text(self) -> str:
        """The text parts joined by blank lines; images are left out."""
        return "\n\n".join(part["text"]["value"] for part in self.content if part["type"] == "text")


@dataclass(frozen=True, slots=True)
class TurnFile:
    """A file of ours that a turn may need; `size` in bytes. `read` is called in a thread and raises OSError where
    the bytes are gone. `upstream_id` is the copy this connection already has, if any."""

    id: str
    filename: str
    size: int
    read: Callable[[], bytes] = field(compare=False)
    upstream_id: str | None = None


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file that code wrote, whole: a PNG where it is shown as a picture."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call inside a `tool_calls` step.

    For `function`, `name` and `arguments` (a JSON-encoded string) are set and `output` is
    None until the client has submitted it. For `code_interpreter`, `input` is the
    Python source, `logs` what it printed (None while it runs) and `images` its pictures.
    For `file_search`, `results` holds wire-shaped results.
    """

    id: str
    type: Literal["function", "code_interpreter", "file_search"]
    name: str = ""
    arguments: str = ""
    output: str | None = None
    input: str = ""
    logs: str | None = None
    images: Sequence[GeneratedFile] = ()
    results: Sequence[Json] = ()
    notes: Json = field(default_factory=dict)
    """For people, beside the wire's fields: `stderr`, `seconds` taken, `limit` hit (a sentence)."""


@dataclass(frozen=True, slots=True)
class ToolCallsItem:
    """A batch of parallel tool calls: one run step on the wire.

    `key` is unique inside the attempt and stays the same in every later Progress.
    """

    key: str
    calls: Sequence[ToolCall]
    done: bool = False
    error: str | None = None
    """Why the step failed, in a sentence for people; None when it did not."""


@dataclass(frozen=True, slots=True)
class MessageItem:
    """Text of the answer so far: one message and one `message_creation` step on the wire.

    `files` are those that `annotations` of type `file_path` speak of, by the id they use there;
    recording keeps the bytes and puts ids of ours in their place.
    """

    key: str
    text: str
    annotations: Sequence[Json] = ()
    files: Mapping[str, GeneratedFile] = field(default_factory=dict)
    images: Sequence[GeneratedFile] = ()
    done: bool = False


Item: TypeAlias = ToolCallsItem | MessageItem


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent by this attempt so far, over all of its model calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


Outcome: TypeAlias = Literal[
    "working", "requires_action", "completed", "incomplete", "failed", "cancelled", "expired"
]


@dataclass(frozen=True, slots=True)
class Progress:
    """The whole known state of one attempt. Recording the same Progress twice changes nothing.

    `items` holds every item of the attempt in order, not only what is new. `state` is
    whatever JSON the engine wants back at its next look (a cursor, what a later attempt of
    the run must repeat). `upstream_id` is what the upstream calls this attempt, so that its
    webhooks find the run. `uploads` are files that the connection has by now, its id by ours.
    `look_again` is in seconds and only read while `outcome` is `working`.
    """

    outcome: Outcome
    items: Sequence[Item] = ()
    usage: Usage | None = None
    state: Json = field(default_factory=dict)
    upstream_id: str = ""
    uploads: Mapping[str, str] = field(default_factory=dict)
    look_again: float = field(default=1.0, compare=False)
    error_code: str = "server_error"
    error: str | None = None
    incomplete_reason: (
        Literal["max_completion_tokens", "max_prompt_tokens", "content_filter"] | None
    ) = None


@dataclass(frozen=True, slots=True)
class Key:
    """One of a connection's two keys. `number` is 1 or 2, as the admin shows it."""

    number: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Where the upstream is, and what it can bear. `id` tells connections apart inside a process.

    `keys` never appear in `repr`. `has_webhooks`: the upstream tells us of each end, so that
    looking is a safety net only. `options` have been validated.
    """

    kind: str
    id: int = 0
    name: str = ""
    base_url: str = ""
    api_version: str = ""
    keys: Sequence[Key] = ()
    has_webhooks: bool = False
    options: ConnectionOptions = field(default_factory=ConnectionOptions)


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything one model call needs; nothing depends on upstream memory.

    `past` are the items of this run's earlier attempts, function calls with their submitted
    `output` included, oldest first; `past_states` the last `Progress.state` of each of these
    attempts; `spent` the tokens of all of them. `note` is what a reviewer asked to be done
    differently; None on a first try. `deadline` is the run's `expires_at`. `files` holds what
    messages and tools name, by our id.

    `recorded` and `state` are what is already known of this very attempt when it is taken up
    again: its items that are done and its last state. Empty on a first start.
    """

    run_id: str
    attempt: int
    attempt_key: str
    model: str
    instructions: str
    messages: Sequence[TurnMessage]
    connection: ConnectionInfo
    deadline: datetime
    tools: Sequence[Json] = ()
    tool_resources: Json = field(default_factory=dict)
    tool_choice: str | Json = "auto"
    parallel_tool_calls: bool = True
    response_format: str | Json = "auto"
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    past: Sequence[Item] = ()
    past_states: Sequence[Json] = ()
    spent: Usage = Usage()
    note: str | None = None
    files: Mapping[str, TurnFile] = field(default_factory=dict)
    recorded: Sequence[Item] = ()
    state: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """An upstream's object that one of our attempts began: the attempt's key, and the state a
    Progress would have carried."""

    attempt_key: str
    state: Json


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is needed to look at an attempt that has been started."""

    run_id: str
    attempt: int
    attempt_key: str
    state: Json
    connection: ConnectionInfo
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a connection test found. `seconds` is how long the answer took, None where nothing was
    asked; `models` None where the upstream does not list them; `supports` says in words
    what was seen to work (True), or not (False)."""

    answer: str
    seconds: float | None = None
    models: Sequence[str] | None = None
    supports: Mapping[str, bool] = field(default_factory=dict)


class Engine(abc.ABC):
    """One way of getting an answer. One instance a process; all methods are safe to run concurrently.

    Every method may raise an `EngineError`. Whatever must survive a crash goes into
    `Progress.state`.
    """

    kind: ClassVar[str]
    options: ClassVar[type[ConnectionOptions]] = ConnectionOptions
    """What a connection of this kind may declare."""
    start_is_repeatable: ClassVar[bool] = True
    """Whether a start that nobody knows the fate of may simply be made again. Where it is not,
    the run goes on with a new attempt, and the old one counts only if it is found first."""
    works_here: ClassVar[bool] = False
    """Whether the work itself is done in this process. Another process then takes a run up
    with `start`, its Turn carrying what was recorded; otherwise with `look`."""

    @abc.abstractmethod
    async def start(self, turn: Turn) -> Progress:
        """Begin the attempt and return what is known at once. A stream may stay open for the next
        look, which does without where another process makes it."""

    @abc.abstractmethod
    async def look(self, sighting: Sighting) -> Progress:
        """Return the attempt's whole state: now, or as soon as there is news where the engine
        listens to its upstream. A look that is cancelled leaves nothing open."""

    @abc.abstractmethod
    async def cancel(self, sighting: Sighting) -> None:
        """Ask upstream to stop; returns when the request was taken. Cancelling twice is fine."""

    async def tidy(self, sighting: Sighting) -> None:  # noqa: B027
        """Remove what the upstream keeps of an attempt whose end is on the rows. Best effort."""

    async def find(self, connection: ConnectionInfo, upstream_id: str) -> Found | None:
        """Whose this upstream object is; None where it is none of ours."""
        return None

    async def discard(self, connection: ConnectionInfo, upstream_id: str) -> None:  # noqa: B027
        """Stop and remove an upstream object that no run waits for. Best effort."""

    async def inspect(self, connection: ConnectionInfo, model: str) -> Inspection:
        """Say hello: ask the upstream for a word with `model`, and what it offers."""
        return Inspection(answer="Nothing to reach: this engine works without an upstream.")

    async def warm_up(self) -> None:  # noqa: B027 - most engines have nothing to prepare
        """Prepare what the first run would have to wait for; called once as the driver starts."""

    async def close(self) -> None:  # noqa: B027 - most engines have nothing to give back
        """Give back processes and sockets; called once as the driver stops."""
