"""What the fake is to answer: JSON at the head of the instructions it receives.

Instructions that are no JSON mean the default script. Keys, all optional:

- `answer`: the text ("x = 1"); `seconds`: how long the answer takes (0)
- `tools`: [{"name", "arguments"}], function calls made together, once; the answer then is
  "The tools say: OUT1, OUT2". Arguments that are text go out as they are, JSON or not
- `code`: a code cell, with `logs` ("1"). Chat calls the function `python` instead, where it is
  offered, `code_rounds` times (1), and appends its output to the answer; `code_function` says
  what to call instead of `python`
- `plot`: true, the code also shows an image in its outputs
- `image`, `file`: names of files that the code leaves behind
- `citations`: [{"file", "at"}], places in the answer that cite the nth file of the search. Chat
  calls the function `file_search` instead and ends its answer with the markers found in the output
- `refusal`: a text instead of the answer; `reasoning`: true, think first, and insist on it later
- `status`: how it ends ("completed"), with `error` {"code", "message"} and `reason` (of
  incomplete). One that failed shows an `answer` only if the script has one
- `finish`: chat's finish_reason, whatever it ought to be
- `synchronous`: true, knows no background: answers at once and keeps nothing
- `queued`: seconds until an Assistants run is in progress (a fifth of `seconds`)
- `patience`: seconds an Assistants run waits for tool outputs before it expires (600)
- `usage`: null, or {"input_tokens", "output_tokens"}
- `stream_faults` (with `id`): what befalls each stream of a response that is opened, and after which
  event: "cut:5", "eof:5" (it ends too early), "stall:5", "garbage:5", "error:5"; "empty" has no event at all; null is well
- `gate`: number of an event; a response is not done, and its streams stop behind that event, until the
  test opens the gate
- `scattered`: true, streams come in pieces that end anywhere; `mute`: true, do not stream at all
- `stubborn`: true, do not stop when cancelled
- `id` with `faults`, `look_faults`, `submit_faults`, `cancel_faults`, `assistant_faults`: what goes
  wrong, one fault a request (`faults.py`), with `retry_after` (0.2) and `delay` (1) in seconds, and
  the parameter that is `unsupported` ("temperature")
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream.call import tokens

Script = dict[str, Any]


def read(instructions: Any) -> Script:
    """What stands behind the JSON is ignored: engines may add a note of their own."""
    if not isinstance(instructions, str):
        return {}
    try:
        script, _ = json.JSONDecoder().raw_decode(instructions.lstrip())
    except ValueError:
        return {}
    return script if isinstance(script, dict) else {}


def text_of(content: Any) -> str:
    """The words of a message, whose content is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or ())


def arguments(tool: dict[str, Any]) -> str:
    """What a function is called with, as the wire has it: JSON in a string."""
    given = tool.get("arguments", {})
    return given if isinstance(given, str) else json.dumps(given)


def answer(script: Script, outputs: list[str]) -> str:
    if script.get("refusal"):
        return str(script["refusal"])
    if script.get("tools") and outputs:
        return f"The tools say: {', '.join(outputs)}"
    return str(script.get("answer", "x = 1"))


def usage(script: Script, request: Any, output: Any) -> tuple[int, int] | None:
    """Tokens in and out. None: the upstream does not say."""
    told = script.get("usage", {})
    if told is None:
        return None
    return told.get("input_tokens", tokens(request)), told.get("output_tokens", tokens(output))
