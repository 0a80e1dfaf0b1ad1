"""The vendor's rules for sending items back: calls with their outputs, thoughts with what followed."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tests.fakes.upstream.call import Refused

if TYPE_CHECKING:
    from tests.fakes.upstream.state import State

Item = dict[str, Any]


def remember(state: State, made: list[Item]) -> None:
    thoughts = [item["id"] for item in made if item["type"] == "reasoning"]
    calls = [item["call_id"] for item in made if item["type"] == "function_call"]
    if thoughts:
        state.thoughts.update(dict.fromkeys(calls, thoughts[0]))


def check(state: State, items: list[Item]) -> None:
    check_outputs(items)
    seen: set[str] = set()
    nothing: Item = {}
    for item, following in zip_longest(items, items[1:], fillvalue=nothing):
        if item.get("type") == "reasoning":
            check_thought(state, item, following)
            seen.add(item["id"])
        elif item.get("type") == "function_call":
            thought = state.thoughts.get(item["call_id"])
            if thought and thought not in seen:
                name = item.get("id") or item["call_id"]
                raise Refused(
                    400,
                    f"Item '{name}' of type 'function_call' was provided without its required "
                    f"'reasoning' item: '{thought}'.",
                    param="input",
                )


def check_thought(state: State, item: Item, following: Item) -> None:
    if not item.get("encrypted_content"):
        raise Refused(
            404,
            f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set "
            "to false.",
            param="input",
        )
    kind, role = following.get("type"), following.get("role")
    foreign = kind == "function_call" and state.thoughts.get(following["call_id"]) != item["id"]
    if not following or foreign or role == "user" or kind == "function_call_output":
        raise Refused(
            400,
            f"Item '{item['id']}' of type 'reasoning' was provided without its required "
            "following item.",
            param="input",
        )


def check_outputs(items: list[Item]) -> None:
    calls = {item["call_id"] for item in items if item.get("type") == "function_call"}
    outputs = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    for call_id in sorted(calls - outputs):
        message = f"No tool output found for function call {call_id}."
        raise Refused(400, message, param="input")
    for call_id in sorted(outputs - calls):
        message = f"No tool call found for function call output with call_id {call_id}."
        raise Refused(400, message, param="input")
