"""What a connection to a Responses API may declare."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from assistant_manager.engines.base import ConnectionInfo
from assistant_manager.engines.options import ConnectionOptions

Include = Literal[
    "code_interpreter_call.outputs", "file_search_call.results", "reasoning.encrypted_content"
]


class ResponsesOptions(ConnectionOptions):
    background: bool = Field(
        True,
        description="Have the upstream work in the background and ask it from time to time. "
        "Off: one request waits for the whole answer, and nothing is kept upstream.",
    )
    listen: bool | None = Field(
        None,
        description="Hold the upstream's stream of each background answer open, so that its end is "
        "known at once; where that fails it is asked from time to time. Empty: on, except on "
        "Azure, where streams are slow to begin.",
    )
    keep_upstream: bool = Field(
        False, description="Leave answers at the upstream after they have been stored here."
    )
    poll_seconds: float | None = Field(
        None,
        gt=0,
        le=300,
        description="Seconds between two looks at an answer nobody listens to. Empty: 2 at first, "
        "later 5 and 15; 30 where webhooks tell of its end.",
    )
    context_window: int = Field(
        128_000,
        ge=1_000,
        description="Tokens its models can read. Older messages are left out beyond them.",
    )
    counts_tokens: bool = Field(
        False,
        description="Have it count the tokens of a run with max_prompt_tokens, which costs one "
        "more request. Off: we count, and err on the side of less.",
    )
    image_file_ids: bool | None = Field(
        None,
        description="Send pictures as uploaded files instead of inside the request. "
        "Empty: only to OpenAI itself.",
    )
    file_purpose: Literal["user_data", "assistants"] | None = Field(
        None, description="The purpose of uploaded files. Empty: “assistants” on Azure."
    )
    include: tuple[Include, ...] = Field(
        (
            "code_interpreter_call.outputs",
            "file_search_call.results",
            "reasoning.encrypted_content",
        ),
        description="Parts of an answer that must be asked for; leave out what it does not know.",
    )
    leave_out: tuple[str, ...] = Field(
        (),
        description="Fields of a request that it does not take, such as “temperature”.",
    )


def options_of(info: ConnectionInfo) -> ResponsesOptions:
    """Those of the connection; the usual ones where it was made without any."""
    return info.options if isinstance(info.options, ResponsesOptions) else ResponsesOptions()


def is_azure(info: ConnectionInfo) -> bool:
    host = urlsplit(info.base_url).hostname or ""
    return bool(info.api_version) or ".azure." in f"{host}."


def is_openai(info: ConnectionInfo) -> bool:
    return not info.base_url or urlsplit(info.base_url).hostname == "api.openai.com"


def listens(info: ConnectionInfo) -> bool:
    options = options_of(info)
    wanted = not is_azure(info) if options.listen is None else options.listen
    return options.background and wanted


def sends_file_ids(info: ConnectionInfo) -> bool:
    """Whether pictures go as uploaded files; Azure and most servers want them in the request."""
    wanted = options_of(info).image_file_ids
    return is_openai(info) if wanted is None else wanted


def purpose_of(info: ConnectionInfo) -> Literal["user_data", "assistants"]:
    return options_of(info).file_purpose or ("assistants" if is_azure(info) else "user_data")
