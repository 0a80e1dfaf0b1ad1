"""Rows as they go out. Every documented key is present, null where empty."""

from __future__ import annotations

from typing import Any

from assistant_manager.openai_api.errors import Wire
from assistant_manager.openai_api.serializers import seconds
from conversations.models import Message, Run, RunStatus, RunStep, Thread
from conversations.models.steps import StepStatus
from conversations.services.runs import pending_calls


def thread_wire(thread: Thread) -> Wire:
    return {
        "id": thread.public_id,
        "object": "thread",
        "created_at": seconds(thread.created_at),
        "metadata": thread.metadata,
        "tool_resources": thread.tool_resources,
    }


def message_wire(message: Message, thread_id: str) -> Wire:
    reason = message.incomplete_reason
    return {
        "id": message.public_id,
        "object": "thread.message",
        "created_at": seconds(message.created_at),
        "thread_id": thread_id,
        "status": message.status,
        "incomplete_details": {"reason": reason} if reason else None,
        "completed_at": seconds(message.completed_at),
        "incomplete_at": seconds(message.incomplete_at),
        "role": message.role,
        "content": message.content,
        "assistant_id": message.assistant.public_id if message.assistant else None,
        "run_id": message.run.public_id if message.run else None,
        "attachments": message.attachments,
        "metadata": message.metadata,
    }


RUN_COLUMNS = (
    *("public_id", "thread__public_id", "assistant__public_id", "created_at", "status"),
    *("last_error", "expires_at", "started_at", "cancelled_at", "failed_at", "completed_at"),
    *("incomplete_reason", "model", "instructions", "tools", "tool_resources", "metadata"),
    *("prompt_tokens", "completion_tokens", "temperature", "top_p", "max_prompt_tokens"),
    *("max_completion_tokens", "truncation_strategy", "tool_choice", "parallel_tool_calls"),
    *("response_format", "reasoning_effort"),
)
"""What `run_wire` reads. A run has twice as many columns, and building the query costs more than
running it."""


def run_wire(run: Run) -> Wire:
    """`instructions` is "" rather than null, and `expires_at` null once the run has ended.

    What a held answer would give away stays out: it is in progress to whoever asks.
    """
    incomplete = run.incomplete_reason if run.state is RunStatus.INCOMPLETE else None
    return {
        "id": run.public_id,
        "object": "thread.run",
        "created_at": seconds(run.created_at),
        "thread_id": run.thread.public_id,
        "assistant_id": run.assistant.public_id,
        "status": run.state.wire,
        "required_action": _required_action(run),
        "last_error": run.last_error if run.state is RunStatus.FAILED else None,
        "expires_at": None if run.is_ended else seconds(run.expires_at),
        "started_at": seconds(run.started_at),
        "cancelled_at": seconds(run.cancelled_at),
        "failed_at": seconds(run.failed_at),
        "completed_at": seconds(run.completed_at),
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": run.model,
        "instructions": run.instructions,
        "tools": run.tools,
        "tool_resources": run.tool_resources,
        "metadata": run.metadata,
        "usage": _usage(run) if run.is_ended else None,
        "temperature": run.temperature,
        "top_p": run.top_p,
        "max_prompt_tokens": run.max_prompt_tokens,
        "max_completion_tokens": run.max_completion_tokens,
        "truncation_strategy": {"type": "auto", "last_messages": None}
        | (run.truncation_strategy or {}),
        "tool_choice": run.tool_choice,
        "parallel_tool_calls": run.parallel_tool_calls,
        "response_format": run.response_format,
        "reasoning_effort": run.reasoning_effort,
    }


def _required_action(run: Run) -> Wire | None:
    """Asks the database for a run that waits, of which a thread has one at most."""
    if run.state is not RunStatus.REQUIRES_ACTION:
        return None
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            },
        }
        for call in pending_calls(run)
    ]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def _usage(row: Run | RunStep) -> Wire | None:
    if row.prompt_tokens is None or row.completion_tokens is None:
        return None
    return {
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.prompt_tokens + row.completion_tokens,
    }


def step_wire(step: RunStep, run: Run, *, search_content: bool) -> Wire:
    """`search_content`: whether found passages are shown in full, which clients must ask for."""
    return {
        "id": step.public_id,
        "object": "thread.run.step",
        "created_at": seconds(step.created_at),
        "assistant_id": run.assistant.public_id,
        "thread_id": run.thread.public_id,
        "run_id": run.public_id,
        "type": step.type,
        "status": step.status,
        "step_details": step.details if search_content else without_content(step.details),
        "last_error": _step_error(step.last_error),
        "expires_at": None if run.is_ended else seconds(run.expires_at),
        "expired_at": seconds(step.expired_at),
        "cancelled_at": seconds(step.cancelled_at),
        "failed_at": seconds(step.failed_at),
        "completed_at": seconds(step.completed_at),
        "metadata": {},
        "usage": _usage(step) if step.status != StepStatus.IN_PROGRESS else None,
    }


def _step_error(error: Wire | None) -> Wire | None:
    """A step cannot say `invalid_prompt`, which its run can; strict clients would not read it."""
    if error is None or error["code"] in STEP_ERRORS:
        return error
    return {**error, "code": "server_error"}


STEP_ERRORS = ("server_error", "rate_limit_exceeded")


def without_content(details: dict[str, Any]) -> dict[str, Any]:
    calls = details.get("tool_calls", [])
    if not any(call["type"] == "file_search" for call in calls):
        return details
    return {**details, "tool_calls": [_bare(call) for call in calls]}


def _bare(call: dict[str, Any]) -> dict[str, Any]:
    if call["type"] != "file_search":
        return call
    search = call["file_search"]
    results = [
        {key: value for key, value in result.items() if key != "content"}
        for result in search.get("results", [])
    ]
    return {**call, "file_search": {**search, "results": results}}
