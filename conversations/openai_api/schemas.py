"""The requests of /threads and everything below it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from assistant_manager.openai_api.fields import (
    Instructions,
    Metadata,
    ModelName,
    ReasoningEffort,
    ResponseFormat,
    Temperature,
    Tool,
    ToolChoice,
    ToolResources,
    TopP,
    given,
)
from assistant_manager.openai_api.pagination import PageBothWays
from assistant_manager.openai_api.validation import Body, Inner, Query, by_kind, refuse
from conversations.services.threads import NewMessage, text_content

Text = Annotated[str, Field(min_length=1, max_length=256_000)]

# --- Messages ---------------------------------------------------------------------------


class TextPart(Body):
    type: Literal["text"]
    text: Text

    def stored(self) -> dict[str, Any]:
        """Requests say the text plainly; what is stored and sent has room for annotations."""
        return text_content(self.text)[0]


class ImageFile(Body):
    file_id: str
    detail: Literal["auto", "low", "high"] | None = None


class ImageFilePart(Body):
    type: Literal["image_file"]
    image_file: ImageFile

    def stored(self) -> dict[str, Any]:
        image = {"file_id": self.image_file.file_id, "detail": self.image_file.detail or "auto"}
        return {"type": self.type, "image_file": image}


class ImageUrl(Body):
    url: Annotated[str, Field(min_length=1, max_length=32_768)]
    detail: Literal["auto", "low", "high"] | None = None


class ImageUrlPart(Body):
    type: Literal["image_url"]
    image_url: ImageUrl

    def stored(self) -> dict[str, Any]:
        image = {"url": self.image_url.url, "detail": self.image_url.detail or "auto"}
        return {"type": self.type, "image_url": image}


Part = Annotated[
    Annotated[TextPart, Tag("<text>")]
    | Annotated[ImageFilePart, Tag("<image_file>")]
    | Annotated[ImageUrlPart, Tag("<image_url>")],
    Discriminator(by_kind),
]
Content = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[Annotated[list[Part], Field(min_length=1)], Tag("<array>")],
    Discriminator(by_kind),
]


class AttachmentTool(Body):
    type: Literal["code_interpreter", "file_search"]


class Attachment(Inner):
    file_id: str
    tools: list[AttachmentTool] | None = None


class CreateMessage(Body):
    role: Literal["user", "assistant"]
    content: Content
    attachments: list[Attachment] | None = None
    metadata: Metadata | None = None

    def stored(self) -> NewMessage:
        content = self.content
        return {
            "role": self.role,
            "content": text_content(content)
            if isinstance(content, str)
            else [part.stored() for part in content],
            "attachments": [given(attachment) for attachment in self.attachments or []],
            "metadata": self.metadata or {},
        }

    def files(self, path: str = "") -> list[tuple[str, str]]:
        """Where the body names a file, and which."""
        start = f"{path}." if path else ""
        named = [
            (f"{start}attachments[{index}].file_id", attachment.file_id)
            for index, attachment in enumerate(self.attachments or [])
        ]
        if not isinstance(self.content, str):
            named += [
                (f"{start}content[{index}].image_file.file_id", part.image_file.file_id)
                for index, part in enumerate(self.content)
                if isinstance(part, ImageFilePart)
            ]
        return named


class ChangeMetadata(Body):
    """All that may change of messages and runs. Null clears it."""

    metadata: Metadata | None = None

    @property
    def is_empty(self) -> bool:
        return "metadata" not in self.model_fields_set


class ListMessages(PageBothWays):
    run_id: str | None = None


# --- Threads ----------------------------------------------------------------------------


class ChangeThread(Body):
    metadata: Metadata | None = None
    tool_resources: ToolResources | None = None

    def columns(self) -> dict[str, Any]:
        """What to write on the row: what was named, null meaning empty."""
        columns: dict[str, Any] = {}
        if "metadata" in self.model_fields_set:
            columns["metadata"] = self.metadata or {}
        if "tool_resources" in self.model_fields_set:
            columns["tool_resources"] = self.tool_resources.stored() if self.tool_resources else {}
        return columns


class CreateThread(ChangeThread):
    messages: list[CreateMessage] | None = None

    def files(self, path: str = "") -> list[tuple[str, str]]:
        start = f"{path}." if path else ""
        return [
            named
            for index, message in enumerate(self.messages or [])
            for named in message.files(f"{start}messages[{index}]")
        ]


# --- Runs -------------------------------------------------------------------------------


class TruncationStrategy(Body):
    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def says_how_many(self) -> Self:
        if self.type == "last_messages" and self.last_messages is None:
            raise refuse("'last_messages' says how many, and is required for this type.")
        return self


TokenLimit = Annotated[int, Field(ge=256, le=2_147_483_647)]


class RunOptions(Body):
    """What both ways of starting a run take. Null is the same as leaving it out."""

    assistant_id: str
    model: ModelName | None = None
    instructions: Instructions | None = None
    tools: Annotated[list[Tool], Field(max_length=20)] | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_prompt_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None

    def overrides(self) -> dict[str, Any]:
        """Columns of the run that differ from the assistant's."""
        named = given(self, "assistant_id", "instructions", "stream", *self.ELSEWHERE)
        return {name: value for name, value in named.items() if value is not None}

    ELSEWHERE: ClassVar[tuple[str, ...]] = ()
    """Fields that are no columns of the run."""


class CreateRun(RunOptions):
    ELSEWHERE = ("additional_instructions", "additional_messages")

    additional_instructions: Instructions | None = None
    additional_messages: list[CreateMessage] | None = None
    reasoning_effort: ReasoningEffort | None = None

    def files(self) -> list[tuple[str, str]]:
        return [
            named
            for index, message in enumerate(self.additional_messages or [])
            for named in message.files(f"additional_messages[{index}]")
        ]


class CreateThreadAndRun(RunOptions):
    ELSEWHERE = ("thread", "tool_resources")

    thread: CreateThread | None = None
    tool_resources: ToolResources | None = None


class ToolOutput(Body):
    """An output left out is an empty one: the function had nothing to say."""

    tool_call_id: str
    output: str | None = None


class SubmitToolOutputs(Body):
    tool_outputs: list[ToolOutput]
    stream: bool | None = None


class Include(Query):
    include: Annotated[
        list[Literal["step_details.tool_calls[*].file_search.results[*].content"]],
        Field(alias="include[]"),
    ] = []

    @property
    def search_content(self) -> bool:
        return bool(self.include)


class ListSteps(PageBothWays, Include):
    pass
