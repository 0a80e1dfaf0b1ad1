"""The rounds of one attempt: ask the model, run its code, ask again, until it has answered."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from typing import Any, cast

from django.utils import timezone

from assistant_manager.engines.base import (
    GeneratedFile,
    Item,
    Json,
    MessageItem,
    Progress,
    ToolCall,
    ToolCallsItem,
    Turn,
    Usage,
)
from assistant_manager.engines.cells import call_id, code_item
from assistant_manager.engines.chat.answers import Answer, BrokenOff, NoAnswer, listen
from assistant_manager.engines.chat.dialect import Dialect, Entry, Mistake, arguments_of, check
from assistant_manager.engines.chat.links import annotations_of
from assistant_manager.engines.chat.material import pictures_of
from assistant_manager.engines.chat.notebook import Notebook
from assistant_manager.engines.chat.options import ChatOptions
from assistant_manager.engines.clients import Client
from assistant_manager.engines.context import TOO_LONG
from assistant_manager.engines.exceptions import Rejected, Unavailable
from assistant_manager.sandbox import Sandbox

logger = logging.getLogger(__name__)

REPEATS = 2
"""How often an answer that broke off is asked for again, or a picture sent again to a server that
failed at it. Whatever else makes an upstream unavailable is waited for until the run expires."""
LONGEST_QUOTE = 300  # characters of badly written arguments that the model is shown again
LONGEST_NAME = 64  # characters of a function's, as the vendor allows
DISPENSABLE = {"temperature", "top_p", "reasoning_effort", "parallel_tool_calls", "stream_options"}
"""What a model may be asked without: the answer is still one to this question."""
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
ENDED_WELL = {"stop", "tool_calls", "function_call"}


class Rounds:
    """`run` until it returns; `progress` says how far it is, `news` that there is more than text.

    What a crash must not lose is in `progress.state`: the round, its calls that wait to be
    carried out, whether its text has been shown, and the tokens so far. The rest is in the items.
    """

    def __init__(
        self, turn: Turn, client: Client, sandbox: Sandbox, unknown: set[str] | None = None
    ) -> None:
        """`unknown` are parameters that this model does not take, by experience; more are added."""
        state = turn.state
        self._unknown = set() if unknown is None else unknown
        self.turn, self.client = turn, client
        self.options = cast(ChatOptions, turn.connection.options)
        self._notebook = Notebook(sandbox, turn)
        self.news = asyncio.Event()
        self._round: int = state.get("round", 0)
        self._admitted: int | None = self._round
        """The driver has asked the connection's gate for the first round; others are ours to ask
        for, and what is asked again, or a run of many rounds would pass the connection's limits."""
        self._calls: list[list[str]] = list(state.get("calls") or ())
        self._usage = Usage(*state["usage"]) if state.get("usage") else None
        self._entries: list[Entry] = list(turn.recorded)
        self._text: str | None = None if state.get("spoken") else ""
        """What we have shown of this round's text. None: something, which only the process that
        worked on it before us knew."""
        self._hearing: Answer | None = None
        self._has_begun = False
        self._troubles: Counter[type[Unavailable]] = Counter()
        self._end: dict[str, Any] | None = None

    @property
    def progress(self) -> Progress:
        self._show()
        items: list[Item] = [entry for entry in self._entries if not isinstance(entry, Mistake)]
        if self._text:
            items.append(MessageItem(self._key("message"), self._text))
        usage = self._usage
        state = {
            "round": self._round,
            "calls": self._calls,
            "spoken": self._text != "",
            "usage": [usage.prompt_tokens, usage.completion_tokens] if usage else None,
        }
        end = self._end or {"outcome": "working"}
        return Progress(items=items, usage=usage, state=state, look_again=0, **end)

    async def run(self) -> None:
        """Go on to the end. After an Unavailable it may be called again."""
        seconds_left = (self.turn.deadline - timezone.now()).total_seconds()
        try:
            async with asyncio.timeout(max(seconds_left, 0)) as lifetime:
                await self._prepare()
                while self._end is None:
                    if self._calls:
                        await self._carry_out()
                    else:
                        await self._ask()
        except TimeoutError:
            if not lifetime.expired():
                raise
            self._end = {"outcome": "expired"}
        await self.forget()

    async def forget(self) -> None:
        """Give the kernel back."""
        await self._notebook.forget()

    async def _prepare(self) -> None:
        check(self.turn, self.options)
        files = list(self._notebook.files)
        pictures = await pictures_of(self.turn, self.options)
        self._dialect = Dialect(self.turn, self.options, pictures, files)

    def _key(self, what: str) -> str:
        return f"{what}-{self._round}"

    # --- asking -------------------------------------------------------------------------

    async def _ask(self) -> None:
        """One request, and what it says of how the attempt goes on."""
        if self._round >= self.options.max_rounds:
            raise Rejected(f"The model called tools {self._round} times without an answer.")
        body = self._body()
        if body is None:
            return
        if self._round != self._admitted:
            await self.client.gate.enter_again(_say_nothing)
            self._admitted = self._round
        try:
            answer = await self._answered(body)
        except Unavailable as error:
            if self._round or isinstance(error, BrokenOff):
                self._admitted = None
            self._bear(error)
            raise
        if answer is None:
            return
        self._troubles.clear()
        await self._take(answer)
        self.news.set()

    async def _answered(self, body: Json) -> Answer | None:
        """The answer; asked for again without what the upstream says it does not know. None where
        the round must be asked anew, with a shorter thread."""
        headers = {"x-am-run": self.turn.run_id, "x-am-attempt": self.turn.attempt_key}
        self._hearing = None
        while True:
            known = {name: value for name, value in body.items() if name not in self._unknown}
            try:
                return await listen(self.client, known, headers, self._heard)
            except Rejected as refusal:
                if refusal.reason in TOO_LONG and (shorter := self._dialect.shorter()):
                    self._dialect = shorter
                    return None
                parameter = refusal.parameter.partition(".")[0]
                if parameter not in DISPENSABLE & known.keys():
                    raise
            name, model = self.client.info.name, self.turn.model
            logger.warning("“%s” takes no %s for %s", name, parameter, model)
            self._unknown.add(parameter)

    def _bear(self, error: Unavailable) -> None:
        """Raises Rejected instead of `error` where asking again has not helped."""
        if not isinstance(error, BrokenOff | NoAnswer):
            return
        self._troubles[type(error)] += 1
        if self._troubles[type(error)] <= REPEATS:
            return
        if isinstance(error, BrokenOff):
            raise Rejected(str(error)) from None
        if self._dialect.has_pictures:
            # Many servers without eyes do not refuse pictures but fall over them.
            hint = "If its model cannot see pictures, say so in the connection's options."
            raise Rejected(f"{error} The question has pictures. {hint}", code="invalid_prompt")

    def _body(self) -> Json | None:
        """The request of this round; None where the run's limits leave no room for one."""
        prompt_left = self._left("prompt_tokens")
        completion_left = self._left("completion_tokens")
        if completion_left is not None and completion_left <= 0:
            self._end = {"outcome": "incomplete", "incomplete_reason": "max_completion_tokens"}
            return None
        body = self._dialect.body(self._entries, prompt_left, completion_left)
        if body is None:
            self._end = {"outcome": "incomplete", "incomplete_reason": "max_prompt_tokens"}
        return body

    def _left(self, kind: str) -> int | None:
        """Tokens of this kind that the run may still spend, None for any number."""
        limit: int | None = getattr(self.turn, f"max_{kind}")
        if limit is None:
            return None
        return limit - getattr(self.turn.spent, kind) - getattr(self._usage or Usage(), kind)

    def _heard(self, answer: Answer) -> None:
        """The question was taken, or there is more of the answer. Cheap: it is called for every
        word."""
        if self._hearing is not answer or (answer.size and not self._has_begun):
            self.news.set()
        self._hearing, self._has_begun = answer, answer.size > 0

    def _show(self) -> None:
        """Show the text so far. One that differs from what was shown before it broke off waits
        until it is whole: who reads along can be told of more text, but not of other text."""
        if self._hearing is None or self._text is None:
            return
        if (text := self._hearing.text).startswith(self._text):
            self._text = text

    async def _take(self, answer: Answer) -> None:
        if answer.usage:
            before = self._usage or Usage()
            self._usage = Usage(
                before.prompt_tokens + answer.usage.prompt_tokens,
                before.completion_tokens + answer.usage.completion_tokens,
            )
        whole = answer.finish in ENDED_WELL
        if answer.text:
            self._entries.append(await self._message(answer.text, done=whole))
        self._text, self._hearing = "", None
        if not whole:
            self._end = _cut_short(answer.finish)
        elif answer.calls:  # some servers say "stop" all the same
            self._calls = [[call.name, call.arguments] for call in answer.calls]
        else:
            self._end = {"outcome": "completed"}

    async def _message(self, text: str, *, done: bool) -> MessageItem:
        """With the pictures that code has drawn for it, and the files that it links."""
        key = self._key("message")
        if not done:
            return MessageItem(key, text)
        files = await self._notebook.linked(text)
        annotations = annotations_of(text, files)
        return MessageItem(key, text, annotations, files, self._new_pictures(), done=True)

    def _new_pictures(self) -> list[GeneratedFile]:
        """Those that no message of this attempt has shown yet."""
        pictures: list[GeneratedFile] = []
        for entry in self._entries:
            if isinstance(entry, MessageItem):
                pictures.clear()
            elif isinstance(entry, ToolCallsItem):
                pictures += [image for call in entry.calls for image in call.images]
        return pictures

    # --- calls --------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Our code first, so that functions of the client come last and end the attempt."""
        wanted: list[ToolCall] = []
        done = {entry.key for entry in self._entries if isinstance(entry, ToolCallsItem)}
        for number, (name, arguments) in enumerate(self._calls):
            key = f"{self._key('call')}-{number}"
            if name == self._dialect.code_name:
                if key not in done:
                    await self._run_code(key, arguments)
            elif name in self._dialect.functions:
                id = call_id(self.turn.attempt_key, key)
                wanted.append(ToolCall(id, "function", name=name, arguments=arguments))
            else:
                self._tell_of_mistake(key, name, "{}", f"There is no function “{name}”.")
        if wanted:
            self._entries.append(ToolCallsItem(self._key("functions"), wanted))
            self._end = {"outcome": "requires_action"}
        self._calls = []
        self._round += 1

    async def _run_code(self, key: str, arguments: str) -> None:
        source = (arguments_of(arguments) or {}).get("code")
        if not isinstance(source, str):
            self._tell_of_mistake(
                key,
                self._dialect.code_name or "",
                "{}",
                'The arguments must be JSON like {"code": "print(1)"}, with line breaks written '
                f"as \\n. Nothing was run. They were: {arguments[:LONGEST_QUOTE]}",
            )
            return
        attempt_key = self.turn.attempt_key
        self._entries.append(code_item(attempt_key, key, source))
        self.news.set()
        result = await self._notebook.run(source)
        self._entries[-1] = code_item(attempt_key, key, source, result)
        self.news.set()

    def _tell_of_mistake(self, key: str, name: str, arguments: str, answer: str) -> None:
        id = call_id(self.turn.attempt_key, key)
        # Servers refuse to be told of a function whose name could be none.
        name = _UNFIT.sub("_", name)[:LONGEST_NAME] or "unknown"
        call = ToolCall(id, "function", name=name, arguments=arguments)
        self._entries.append(Mistake(call, answer))


async def _say_nothing(reason: str) -> None:
    """What the run shows while it waits is the driver's to write."""


def _cut_short(finish: str | None) -> dict[str, Any]:
    if finish == "length":
        return {"outcome": "incomplete", "incomplete_reason": "max_completion_tokens"}
    if finish == "content_filter":
        error = "The upstream's content filter stopped the answer."
        return {"outcome": "failed", "error_code": "invalid_prompt", "error": error}
    error = f"The upstream ended its answer with “{finish}”, which we do not know."
    return {"outcome": "failed", "error": error}
