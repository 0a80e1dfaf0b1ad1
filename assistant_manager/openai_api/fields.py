"""The shapes that several requests share, with the vendor's limits (protocol reference 3.1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag

from assistant_manager.models.connections import ANY_MODEL
from assistant_manager.openai_api.validation import Body, Inner, by_kind, refuse


def _no_sign(name: str) -> str:
    if name == ANY_MODEL:
        raise refuse(f"'{ANY_MODEL}' stands for every other model and is no model's name.")
    return name


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(ge=0.0, le=1.0)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_no_sign)]
Instructions = Annotated[str, Field(max_length=256_000)]
FunctionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


def given(body: BaseModel, *leave_out: str) -> dict[str, Any]:
    """What the client named, in the wire's own keys: what it left out stays out."""
    return body.model_dump(exclude_unset=True, by_alias=True, exclude=set(leave_out))


# --- Tools ------------------------------------------------------------------------------


class CodeInterpreterTool(Body):
    type: Literal["code_interpreter"]


class RankingOptions(Inner):
    score_threshold: Annotated[float, Field(ge=0.0, le=1.0)]
    ranker: Literal["auto", "default_2024_08_21"] | None = None


class FileSearchOptions(Inner):
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None


class FileSearchTool(Inner):
    type: Literal["file_search"]
    file_search: FileSearchOptions | None = None


class Function(Inner):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    type: Literal["function"]
    function: Function


Tool = Annotated[
    Annotated[CodeInterpreterTool, Tag("<code_interpreter>")]
    | Annotated[FileSearchTool, Tag("<file_search>")]
    | Annotated[FunctionTool, Tag("<function>")],
    Discriminator(by_kind),
]


# --- Tool resources ---------------------------------------------------------------------


class CodeInterpreterResources(Body):
    file_ids: Annotated[list[str], Field(max_length=20)] | None = None


class FileSearchResources(Body):
    """`vector_stores` are inline helpers; the references refuse them, there being no stores yet."""

    vector_store_ids: Annotated[list[str], Field(max_length=1)] | None = None
    vector_stores: Annotated[list[dict[str, Any]], Field(max_length=1)] | None = None


class ToolResources(Body):
    code_interpreter: CodeInterpreterResources | None = None
    file_search: FileSearchResources | None = None

    def stored(self) -> dict[str, Any]:
        """Without what is null: {} rather than a key that says nothing."""
        return self.model_dump(exclude_none=True)


# --- How to answer ----------------------------------------------------------------------


class TextFormat(Body):
    type: Literal["text"]


class JsonObjectFormat(Body):
    type: Literal["json_object"]


class JsonSchema(Inner):
    name: FunctionName
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    Annotated[Literal["auto", "none"], Tag("<string>")]
    | Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(by_kind),
]


class NamedFunction(Body):
    name: FunctionName


class FunctionChoice(Body):
    type: Literal["function"]
    function: NamedFunction


class ToolTypeChoice(Body):
    type: Literal["code_interpreter", "file_search"]


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<string>")]
    | Annotated[FunctionChoice, Tag("<function>")]
    | Annotated[ToolTypeChoice, Tag("<code_interpreter>")]
    | Annotated[ToolTypeChoice, Tag("<file_search>")],
    Discriminator(by_kind),
]
