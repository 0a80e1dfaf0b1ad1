"""The beginning of an attempt: what a run needs is made, or a run that waits is gone on with."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from assistant_manager.engines.assistants import files, requests
from assistant_manager.engines.assistants.state import State
from assistant_manager.engines.assistants.status import ENDS
from assistant_manager.engines.assistants.wire import Missing, Wire
from assistant_manager.engines.base import Progress, Turn
from assistant_manager.engines.exceptions import EngineError, Rejected

logger = logging.getLogger(__name__)


async def begin(wire: Wire, turn: Turn) -> Progress:
    """Make what a run needs. What is made and then not used goes again, as far as it can."""
    assistant = await _make_assistant(wire, turn)
    try:
        try:
            copies = await files.upload(wire, turn)
            thread = await _make_thread(wire, turn, assistant, copies)
        except Missing:  # a copy that was remembered
            copies = await files.upload(wire, turn, again=True)
            thread = await _make_thread(wire, turn, assistant, copies)
    except EngineError as error:
        await _forget(wire, f"/assistants/{assistant}")
        if isinstance(error, Missing):
            raise Rejected(str(error)) from error
        raise
    state = State(
        thread=thread,
        assistant=assistant,
        order=requests.run(turn, assistant),
        files={copy: id for id, copy in copies.items()},
        shows_code=any(tool["type"] == "code_interpreter" for tool in turn.tools),
    )
    uploads = files.fresh(turn, copies)
    return Progress("working", state=state.stored(), uploads=uploads, look_again=0)


async def _make_assistant(wire: Wire, turn: Turn) -> str:
    body = requests.assistant(turn)
    while True:
        try:
            return str((await wire.post("/assistants", body))["id"])
        except Rejected as refusal:
            unwanted = refusal.parameter
            droppable = unwanted in requests.MAY_BE_DROPPED & body.keys()
            if refusal.reason != "unsupported_parameter" or not droppable:
                raise
            logger.warning("%s goes without %s: %s", turn.run_id, unwanted, refusal)
            del body[unwanted]


async def _make_thread(wire: Wire, turn: Turn, assistant: str, copies: dict[str, str]) -> str:
    if rest := requests.rest_of_files(turn, copies):
        await wire.post(f"/assistants/{assistant}", rest)
    return str((await wire.post("/threads", requests.thread(turn, copies)))["id"])


async def resume(wire: Wire, turn: Turn) -> Progress | None:
    """Go on with the run that waits for the outputs of its functions. None where none does: it
    took too long, or there never was one; then the attempt begins anew."""
    state = State.read(turn.past_states[-1]) if turn.past_states else None
    if state is None or not state.waits_for:
        return None
    with suppress(Missing, Rejected):
        if await _hand_in(wire, state, requests.outputs(turn)):
            state = replace(state, waits_for="")
            return Progress("working", state=state.stored(), upstream_id=state.run, look_again=0)
    await remove(wire, state)
    return None


async def _hand_in(wire: Wire, state: State, outputs: dict[str, str]) -> bool:
    """Whether the run has these outputs, from us now or from a start that nobody heard of again."""
    place = f"{state.runs}/{state.run}"
    run = await wire.get(place)
    if run["status"] not in ENDS:
        return True
    action = run.get("required_action") or {"submit_tool_outputs": {"tool_calls": []}}
    asked = [call["id"] for call in action["submit_tool_outputs"]["tool_calls"]]
    if not asked or not set(asked) <= set(outputs):  # it has ended, or waits for others by now
        return await _has_outputs(wire, place, state)
    handed = [{"tool_call_id": id, "output": outputs[id]} for id in asked]
    await wire.post(f"{place}/submit_tool_outputs", {"tool_outputs": handed})
    return True


async def _has_outputs(wire: Wire, place: str, state: State) -> bool:
    """Whether the functions' step was answered, whatever became of the run since."""
    step = await wire.get(f"{place}/steps/{state.waits_for}")
    return step["status"] == "completed"


async def remove(wire: Wire, state: State) -> None:
    """Remove what an attempt has made, unless the connection keeps it."""
    if wire.options.keep_upstream:
        return
    await wire.delete(f"/threads/{state.thread}")
    await wire.delete(f"/assistants/{state.assistant}")
    for file in state.made:
        await wire.delete(f"/files/{file}")


async def _forget(wire: Wire, place: str) -> None:
    """Best effort: something went wrong already, and that is what is to be told."""
    with suppress(EngineError):
        await wire.delete(place)
