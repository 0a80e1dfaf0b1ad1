"""The engine that needs no key, no network and no model: mathematics, worked out by sympy.

The planner turns the question into a short program, or says that it cannot; the program runs in
the sandbox as an ordinary code-interpreter call, and the answer quotes what it printed. Nothing
is guessed: what the planner does not understand whole is refused in plain words.

Tokens are counted by the rule of `context.py`, since no model is there to count them: one token
for every four bytes of UTF-8 in each text, rounded up. The prompt is the instructions, the messages
and the JSON of the tools; the completion is the program, the arguments and the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assistant_manager.engines import offline_texts as texts
from assistant_manager.engines.base import (
    Engine,
    Item,
    Json,
    MessageItem,
    Progress,
    Sighting,
    ToolCall,
    ToolCallsItem,
    Turn,
    Usage,
)
from assistant_manager.engines.cells import Workplace, call_id, code_item
from assistant_manager.engines.context import BYTES_PER_TOKEN, count_tokens
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.planner import NoPlan, Plan, phrase, plan
from assistant_manager.engines.schema_example import NoExample, example
from assistant_manager.sandbox import CellResult, Sandbox, SandboxUnavailable

CODE_KEY, FUNCTION_KEY, ANSWER_KEY = "code", "function", "answer"
LONGEST_VALUE = 8_000  # characters of output that an answer quotes
_QUOTED = re.compile(r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|`([^`\n]{1,200})`")


class EmbeddedEngine(Engine):
    """Offline and deterministic: the same turn always gives the same Progress.

    `start` plans and shows the program, `look` runs it, so that a page which watches sees the
    code before its output. The sandbox is made at the first run that needs it.
    """

    kind = "embedded"

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self._workplace = Workplace(sandbox)

    async def start(self, turn: Turn) -> Progress:
        prompt_tokens = _prompt_tokens(turn)
        if prompt_tokens is None:
            return Progress("incomplete", usage=Usage(), incomplete_reason="max_prompt_tokens")
        reply = _Reply.to(turn, prompt_tokens)
        outputs = _submitted(turn)
        if outputs:
            return reply.finished(texts.function_outputs(outputs, turn.note))
        planned = _plan(turn)
        if function := _demanded_function(turn, planned):
            return reply.asking_for(_function_call(turn, function))
        if isinstance(planned, NoPlan):
            return reply.finished(texts.refusal(planned.reason, has_files=_has_files(turn)))
        if obstacle := _obstacle(turn):
            return reply.finished(obstacle)
        preface = texts.preface(turn.note, planned_from_note=_is_plan_of_note(turn))
        return reply.running(planned, preface)

    async def look(self, sighting: Sighting) -> Progress:
        state = sighting.state
        reply = _Reply(**state["reply"])
        planned = Plan(**state["plan"])
        session = _session(sighting)
        sandbox = self._workplace.open()
        try:
            result = await sandbox.run(session, planned.source)
        except SandboxUnavailable as unavailable:
            raise Rejected(str(unavailable)) from unavailable
        await sandbox.forget(session)  # a plan is one cell: nobody comes back to its kernel
        # Whether the kernel was new says nothing about a program of one cell, and would make a
        # repeated look differ from the first.
        result = replace(result, fresh=False)
        answer = state["preface"] + _answer(planned, result)
        return reply.finished(
            answer, before=[code_item(reply.key, CODE_KEY, planned.source, result)]
        )

    async def cancel(self, sighting: Sighting) -> None:
        await self._workplace.forget(_session(sighting))

    async def warm_up(self) -> None:
        await self._workplace.warm_up()

    async def close(self) -> None:
        await self._workplace.close()


@dataclass(frozen=True, slots=True)
class _Reply:
    """What shapes every Progress of one attempt: its key, its counts and its limits."""

    key: str
    prompt_tokens: int
    most_tokens: int | None
    format: str | Mapping[str, Any]

    @classmethod
    def to(cls, turn: Turn, prompt_tokens: int) -> _Reply:
        wanted = turn.response_format
        return cls(
            key=turn.attempt_key,
            prompt_tokens=prompt_tokens,
            most_tokens=turn.max_completion_tokens,
            format=wanted if isinstance(wanted, str) else dict(wanted),
        )

    def running(self, planned: Plan, preface: str) -> Progress:
        state = {
            "plan": {
                "intent": planned.intent,
                "source": planned.source,
                "words": dict(planned.words),
            },
            "preface": preface,
            "reply": {
                "key": self.key,
                "prompt_tokens": self.prompt_tokens,
                "most_tokens": self.most_tokens,
                "format": self.format,
            },
        }
        return Progress(
            "working", [code_item(self.key, CODE_KEY, planned.source)], state=state, look_again=0
        )

    def asking_for(self, call: ToolCall) -> Progress:
        usage = Usage(self.prompt_tokens, count_tokens(call.name) + count_tokens(call.arguments))
        return Progress("requires_action", [ToolCallsItem(FUNCTION_KEY, [call])], usage=usage)

    def finished(self, answer: str, before: Sequence[Item] = ()) -> Progress:
        """The answer in the wanted format, cut where it would pass the limit on tokens."""
        answer = _formatted(answer, self.format)
        spent = sum(
            count_tokens(call.input)
            for item in before
            if isinstance(item, ToolCallsItem)
            for call in item.calls
        )
        shown = answer
        if self.most_tokens is not None:
            room = max(self.most_tokens - spent, 0) * BYTES_PER_TOKEN
            shown = answer.encode()[:room].decode(errors="ignore")
        items = [*before]
        if shown:
            items.append(MessageItem(ANSWER_KEY, shown, done=True))
        usage = Usage(self.prompt_tokens, spent + count_tokens(shown))
        if shown != answer:
            return Progress(
                "incomplete", items, usage=usage, incomplete_reason="max_completion_tokens"
            )
        return Progress("completed", items, usage=usage)


def _session(sighting: Sighting) -> str:
    return f"{sighting.run_id}:{sighting.attempt}"


def _answer(planned: Plan, result: CellResult) -> str:
    if result.outcome == "limit":
        return texts.stopped(result.limit)
    if result.outcome == "error" or result.value is None:
        return texts.failed(result.stderr)
    if len(result.value) > LONGEST_VALUE:
        return texts.too_long(len(result.value))
    return phrase(planned.intent, planned.words, result.value)


def _plan(turn: Turn) -> Plan | NoPlan:
    """From the reviewer's note when it is a question itself, else from what was asked last."""
    if _is_plan_of_note(turn):
        return plan(turn.note or "")
    asked = _last_questions(turn)
    if not asked:
        return NoPlan()
    planned = plan(asked[-1])
    if isinstance(planned, NoPlan) and len(asked) > 1:
        # The question and "please help" may come as two messages.
        together = plan("\n".join(asked))
        return together if isinstance(together, Plan) else planned
    return planned


def _is_plan_of_note(turn: Turn) -> bool:
    return turn.note is not None and isinstance(plan(turn.note), Plan)


def _last_questions(turn: Turn) -> list[str]:
    """What the user wrote since the last answer."""
    asked: list[str] = []
    for message in reversed(turn.messages):
        if message.role != "user":
            break
        asked.insert(0, message.text)
    return asked


def _obstacle(turn: Turn) -> str | None:
    """Why the plan may not run, None when it may."""
    if turn.tool_choice == "none":
        return texts.TOOLS_OFF
    if not any(tool["type"] == "code_interpreter" for tool in turn.tools):
        return texts.NO_CODE_INTERPRETER
    if turn.tool_choice == {"type": "file_search"}:
        return texts.NO_FILE_SEARCH
    return None


def _has_files(turn: Turn) -> bool:
    searching = any(tool["type"] == "file_search" for tool in turn.tools)
    return searching or any(message.attachments for message in turn.messages)


def _prompt_tokens(turn: Turn) -> int | None:
    """The prompt's tokens, older messages left out beyond the limit; None if even the last is."""
    fixed = count_tokens(turn.instructions)
    fixed += sum(count_tokens(json.dumps(dict(tool))) for tool in turn.tools)
    counts = [count_tokens(message.text) for message in turn.messages]
    if turn.max_prompt_tokens is None:
        return fixed + sum(counts)
    if fixed + sum(counts[-1:]) > turn.max_prompt_tokens:
        return None
    total = fixed
    for count in reversed(counts):
        if total + count > turn.max_prompt_tokens:
            break
        total += count
    return total


def _submitted(turn: Turn) -> list[tuple[str, str]]:
    """The functions called earlier in this run and what the client said they returned."""
    return [
        (call.name, call.output)
        for item in turn.past
        if isinstance(item, ToolCallsItem)
        for call in item.calls
        if call.type == "function" and call.output is not None
    ]


def _demanded_function(turn: Turn, planned: Plan | NoPlan) -> Json | None:
    """The function that `tool_choice` forces, None when it forces none."""
    functions = [tool["function"] for tool in turn.tools if tool["type"] == "function"]
    choice = turn.tool_choice
    if choice == "required":
        computes = isinstance(planned, Plan) and _obstacle(turn) is None
        return functions[0] if functions and not computes else None
    if isinstance(choice, str) or choice.get("type") != "function":
        return None
    name = choice["function"]["name"]
    for function in functions:
        if function["name"] == name:
            return function
    raise Rejected(f"The run asks for the function '{name}', which it does not have.")


def _function_call(turn: Turn, function: Json) -> ToolCall:
    asked = _last_questions(turn)
    quoted = ["".join(groups) for groups in _QUOTED.findall(asked[-1])] if asked else []
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    try:
        arguments = example(schema, quoted)
    except NoExample as reason:
        raise Rejected(
            f"The offline engine cannot make arguments for the function '{function['name']}'. "
            f"{reason}"
        ) from reason
    return ToolCall(
        id=call_id(turn.attempt_key, FUNCTION_KEY),
        type="function",
        name=function["name"],
        arguments=json.dumps(arguments, ensure_ascii=False),
    )


def _formatted(answer: str, wanted: str | Mapping[str, Any]) -> str:
    """The answer as the response format wants it. Raises Rejected when it cannot hold one."""
    kind = wanted if isinstance(wanted, str) else wanted.get("type", "text")
    if kind == "json_object":
        return json.dumps({"answer": answer}, ensure_ascii=False)
    if kind != "json_schema" or isinstance(wanted, str):
        return answer
    try:
        filled = example(wanted["json_schema"].get("schema") or {}, [answer])
    except NoExample as reason:
        raise Rejected(
            f"The offline engine cannot answer in the wanted format. {reason}"
        ) from reason
    written = json.dumps(filled, ensure_ascii=False)
    if json.dumps(answer, ensure_ascii=False) not in written:
        raise Rejected("The wanted response format has no place for a text of any length.")
    return written
