"""What REST is compared with: FastAPI and SQLModel, synchronous, on uvicorn, on the same tables.

It does the same work as ours: the key is looked up by its digest, rows are found within its
project, what a request says is checked, the thread is locked, rows are written and committed, and
the same fields come back.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Limited
from sqlalchemy import JSON, Column, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, Session, SQLModel, create_engine, select

URL = os.environ["REFERENCE_URL"]
IN_SERVER = URL.startswith("postgresql")
ACTIVE = ("queued", "in_progress", "requires_action", "held", "cancelling")
Json = JSONB if IN_SERVER else JSON

engine = create_engine(URL, pool_size=8, max_overflow=32)
if not IN_SERVER:

    @event.listens_for(engine, "connect")
    def as_ours(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=20000")


def json_column() -> Any:
    return Field(sa_column=Column(Json))


def id_of(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def now() -> datetime:
    return datetime.now(UTC)


def seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


class Key(SQLModel, table=True):
    __tablename__ = "assistant_manager_apikey"
    id: int = Field(primary_key=True)
    digest: str
    project_id: int
    expires_at: datetime | None
    revoked_at: datetime | None


class Assistant(SQLModel, table=True):
    __tablename__ = "assistant_manager_assistant"
    id: int = Field(primary_key=True)
    public_id: str
    project_id: int
    created_at: datetime
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: Any = json_column()
    tool_resources: Any = json_column()
    metadata_: Any = Field(sa_column=Column("metadata", Json))
    temperature: float | None
    top_p: float | None
    response_format: Any = json_column()
    reasoning_effort: str | None


class Model(SQLModel, table=True):
    __tablename__ = "assistant_manager_model"
    id: int = Field(primary_key=True)
    name: str
    connection_id: int
    upstream_name: str


class Thread(SQLModel, table=True):
    __tablename__ = "conversations_thread"
    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=lambda: id_of("thread_"))
    project_id: int
    metadata_: Any = Field(sa_column=Column("metadata", Json))
    tool_resources: Any = json_column()
    created_at: datetime = Field(default_factory=now)


class Message(SQLModel, table=True):
    __tablename__ = "conversations_message"
    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=lambda: id_of("msg_"))
    thread_id: int
    run_id: int | None = None
    assistant_id: int | None = None
    role: str
    content: Any = json_column()
    attachments: Any = json_column()
    metadata_: Any = Field(sa_column=Column("metadata", Json))
    status: str = "completed"
    incomplete_reason: str | None = None
    created_at: datetime = Field(default_factory=now)
    completed_at: datetime | None = None
    incomplete_at: datetime | None = None
    released_at: datetime | None = Field(default_factory=now)


class Run(SQLModel, table=True):
    __tablename__ = "conversations_run"
    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=lambda: id_of("run_"))
    project_id: int
    thread_id: int
    assistant_id: int
    question_id: int | None
    api_key_id: int | None
    status: str = "queued"
    last_error: Any = json_column()
    incomplete_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    metadata_: Any = Field(sa_column=Column("metadata", Json))
    model: str
    instructions: str
    tools: Any = json_column()
    tool_resources: Any = json_column()
    tool_choice: Any = json_column()
    parallel_tool_calls: bool = True
    response_format: Any = json_column()
    truncation_strategy: Any = json_column()
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    release_policy: str = "immediately"
    wants_review: bool = False
    connection_id: int
    upstream_model: str
    created_at: datetime = Field(default_factory=now)
    started_at: datetime | None = None
    expires_at: datetime | None = Field(default_factory=lambda: now() + timedelta(minutes=10))
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    cancelled_at: datetime | None = None
    attempt: int = 0
    due_at: datetime | None = Field(default_factory=now)
    claims: int = 0
    waiting_for: str = ""


class RunEvent(SQLModel, table=True):
    __tablename__ = "conversations_runevent"
    id: int | None = Field(default=None, primary_key=True)
    run_id: int
    seq: int
    type: str
    data: Any = json_column()
    created_at: datetime = Field(default_factory=now)


# --- What is asked and answered ---------------------------------------------------------


class NewMessage(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    role: Literal["user", "assistant"]
    content: Annotated[str, Limited(min_length=1, max_length=256_000)]
    metadata: dict[str, str] | None = None


class NewThread(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    metadata: dict[str, str] | None = None


class NewRun(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    assistant_id: str
    model: str | None = None
    instructions: str | None = None
    temperature: Annotated[float, Limited(ge=0, le=2)] | None = None
    metadata: dict[str, str] | None = None


class Change(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    metadata: dict[str, str]


class ThreadOut(BaseModel):
    id: str
    object: str = "thread"
    created_at: int | None
    metadata: Any
    tool_resources: Any


class MessageOut(BaseModel):
    id: str
    object: str = "thread.message"
    created_at: int | None
    thread_id: str
    status: str
    incomplete_details: Any
    completed_at: int | None
    incomplete_at: int | None
    role: str
    content: Any
    assistant_id: str | None
    run_id: str | None
    attachments: Any
    metadata: Any


class AssistantOut(BaseModel):
    id: str
    object: str = "assistant"
    created_at: int | None
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: Any
    tool_resources: Any
    metadata: Any
    temperature: float | None
    top_p: float | None
    response_format: Any
    reasoning_effort: str | None


class RunOut(BaseModel):
    id: str
    object: str = "thread.run"
    created_at: int | None
    thread_id: str
    assistant_id: str
    status: str
    required_action: Any = None
    last_error: Any
    expires_at: int | None
    started_at: int | None
    cancelled_at: int | None
    failed_at: int | None
    completed_at: int | None
    incomplete_details: Any = None
    model: str
    instructions: str
    tools: Any
    tool_resources: Any
    metadata: Any
    usage: Any
    temperature: float | None
    top_p: float | None
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    truncation_strategy: Any
    tool_choice: Any
    parallel_tool_calls: bool
    response_format: Any
    reasoning_effort: str | None


class Page(BaseModel):
    object: str = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


def message_out(row: Message, thread: str, run: str | None, assistant: str | None) -> MessageOut:
    return MessageOut(
        id=row.public_id,
        created_at=seconds(row.created_at),
        thread_id=thread,
        status=row.status,
        incomplete_details={"reason": row.incomplete_reason} if row.incomplete_reason else None,
        completed_at=seconds(row.completed_at),
        incomplete_at=seconds(row.incomplete_at),
        role=row.role,
        content=row.content,
        assistant_id=assistant,
        run_id=run,
        attachments=row.attachments,
        metadata=row.metadata_,
    )


def run_out(row: Run, thread: str, assistant: str) -> RunOut:
    ended = row.status not in ACTIVE
    return RunOut(
        **{
            name: getattr(row, name)
            for name in RunOut.model_fields
            if hasattr(row, name) and not name.endswith("_at") and name not in TAKEN
        },
        **{
            name: seconds(getattr(row, name))
            for name in RunOut.model_fields
            if name.endswith("_at")
        },
        id=row.public_id,
        thread_id=thread,
        assistant_id=assistant,
        metadata=row.metadata_,
        usage={"prompt_tokens": row.prompt_tokens} if ended else None,
    )


TAKEN = ("id", "thread_id", "assistant_id", "metadata")


def assistant_out(row: Assistant) -> AssistantOut:
    named = {name: getattr(row, name) for name in AssistantOut.model_fields if name in NAMED}
    return AssistantOut(
        **named, id=row.public_id, created_at=seconds(row.created_at), metadata=row.metadata_
    )


NAMED = set(AssistantOut.model_fields) - {"id", "object", "created_at", "metadata"}


def page(data: list[Any], limit: int) -> Page:
    shown = data[:limit]
    ends = (shown[0].id, shown[-1].id) if shown else (None, None)
    return Page(data=shown, first_id=ends[0], last_id=ends[1], has_more=len(data) > limit)


# --- The endpoints ----------------------------------------------------------------------


def session() -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


Opened = Annotated[Session, Depends(session)]


def caller(opened: Opened, authorization: Annotated[str, Header()]) -> Key:
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    key = opened.exec(select(Key).where(Key.digest == digest)).first()
    if key is None or key.revoked_at or (key.expires_at and key.expires_at <= now()):
        raise HTTPException(401)
    return key


Caller = Annotated[Key, Depends(caller)]
Limit = Annotated[int, Query(ge=1, le=100)]
app = FastAPI()


def found(row: Any) -> Any:
    if row is None:
        raise HTTPException(404)
    return row


def thread_of(opened: Session, key: Key, id: str, *, lock: bool = False) -> Thread:
    query = select(Thread).where(Thread.public_id == id, Thread.project_id == key.project_id)
    thread: Thread = found(opened.exec(query.with_for_update() if lock else query).first())
    if (
        lock
        and opened.exec(
            select(Run.id).where(Run.thread_id == thread.id, Run.status.in_(ACTIVE))  # type: ignore[attr-defined]
        ).first()
    ):
        raise HTTPException(400, "busy")
    return thread


def thread_out(row: Thread) -> ThreadOut:
    return ThreadOut(
        id=row.public_id,
        created_at=seconds(row.created_at),
        metadata=row.metadata_,
        tool_resources=row.tool_resources,
    )


@app.post("/v1/threads")
def create_thread(opened: Opened, key: Caller, body: NewThread) -> ThreadOut:
    thread = Thread(project_id=key.project_id, metadata_=body.metadata or {}, tool_resources={})
    opened.add(thread)
    opened.commit()
    opened.refresh(thread)
    return thread_out(thread)


@app.get("/v1/threads/{thread_id}")
def get_thread(opened: Opened, key: Caller, thread_id: str) -> ThreadOut:
    return thread_out(thread_of(opened, key, thread_id))


@app.get("/v1/threads/{thread_id}/messages")
def messages(
    opened: Opened, key: Caller, thread_id: str, limit: Limit = 20, order: str = "desc"
) -> Page:
    thread = thread_of(opened, key, thread_id)
    by = Message.id.desc() if order == "desc" else Message.id  # type: ignore[union-attr]
    rows = opened.exec(
        select(Message, Run.public_id, Assistant.public_id)
        .join(Run, Run.id == Message.run_id, isouter=True)
        .join(Assistant, Assistant.id == Message.assistant_id, isouter=True)
        .where(Message.thread_id == thread.id, Message.released_at != None)  # noqa: E711
        .order_by(by)
        .limit(limit + 1)
    ).all()
    return page([message_out(row[0], thread_id, row[1], row[2]) for row in rows], limit)


@app.get("/v1/threads/{thread_id}/messages/{message_id}")
def message(opened: Opened, key: Caller, thread_id: str, message_id: str) -> MessageOut:
    row = opened.exec(
        select(Message, Run.public_id, Assistant.public_id)
        .join(Thread, Thread.id == Message.thread_id)
        .join(Run, Run.id == Message.run_id, isouter=True)
        .join(Assistant, Assistant.id == Message.assistant_id, isouter=True)
        .where(Message.public_id == message_id, Thread.public_id == thread_id)
        .where(Thread.project_id == key.project_id, Message.released_at != None)  # noqa: E711
    ).first()
    return message_out(found(row)[0], thread_id, row[1], row[2])


@app.post("/v1/threads/{thread_id}/messages")
def add_message(opened: Opened, key: Caller, thread_id: str, body: NewMessage) -> MessageOut:
    thread = thread_of(opened, key, thread_id, lock=True)
    row = Message(
        thread_id=thread.id,
        role=body.role,
        content=[{"type": "text", "text": {"value": body.content, "annotations": []}}],
        attachments=[],
        metadata_=body.metadata or {},
    )
    opened.add(row)
    opened.commit()
    opened.refresh(row)
    return message_out(row, thread_id, None, None)


def run_of(opened: Session, key: Key, thread_id: str, run_id: str) -> tuple[Run, str]:
    row: tuple[Run, str] = found(
        opened.exec(
            select(Run, Assistant.public_id)
            .join(Thread, Thread.id == Run.thread_id)
            .join(Assistant, Assistant.id == Run.assistant_id)
            .where(Run.public_id == run_id, Thread.public_id == thread_id)
            .where(Run.project_id == key.project_id)
        ).first()
    )
    return row


@app.get("/v1/threads/{thread_id}/runs/{run_id}")
def get_run(opened: Opened, key: Caller, thread_id: str, run_id: str) -> RunOut:
    run, assistant = run_of(opened, key, thread_id, run_id)
    return run_out(run, thread_id, assistant)


@app.post("/v1/threads/{thread_id}/runs/{run_id}")
def change_run(opened: Opened, key: Caller, thread_id: str, run_id: str, body: Change) -> RunOut:
    run, assistant = run_of(opened, key, thread_id, run_id)
    run.metadata_ = body.metadata
    opened.add(run)
    opened.commit()
    opened.refresh(run)
    return run_out(run, thread_id, assistant)


@app.get("/v1/threads/{thread_id}/runs")
def runs(opened: Opened, key: Caller, thread_id: str, limit: Limit = 20) -> Page:
    thread = thread_of(opened, key, thread_id)
    rows = opened.exec(
        select(Run, Assistant.public_id)
        .join(Assistant, Assistant.id == Run.assistant_id)
        .where(Run.thread_id == thread.id)
        .order_by(Run.id.desc())  # type: ignore[union-attr]
        .limit(limit + 1)
    ).all()
    return page([run_out(row[0], thread_id, row[1]) for row in rows], limit)


@app.post("/v1/threads/{thread_id}/runs")
def create_run(opened: Opened, key: Caller, thread_id: str, body: NewRun) -> RunOut:
    assistant = assistant_of(opened, key, body.assistant_id)
    thread = thread_of(opened, key, thread_id, lock=True)
    name = body.model or assistant.model
    models = opened.exec(select(Model).where(Model.name.in_([name, "*"]))).all()  # type: ignore[attr-defined]
    model = found({row.name: row for row in models}.get(name) or (models[0] if models else None))
    question = opened.exec(
        select(Message.id)
        .where(Message.thread_id == thread.id, Message.role == "user")
        .order_by(Message.id.desc())  # type: ignore[union-attr]
    ).first()
    run = Run(
        project_id=key.project_id,
        thread_id=thread.id,
        assistant_id=assistant.id,
        question_id=question,
        api_key_id=key.id,
        metadata_=body.metadata or {},
        model=name,
        instructions=body.instructions or assistant.instructions or "",
        tools=assistant.tools,
        tool_resources={**assistant.tool_resources, **thread.tool_resources},
        tool_choice="auto",
        response_format=assistant.response_format,
        temperature=body.temperature or assistant.temperature,
        top_p=assistant.top_p,
        connection_id=model.connection_id,
        upstream_model=model.upstream_name or name,
    )
    opened.add(run)
    opened.flush()
    for seq, what in enumerate(("created", "queued"), start=1):
        event = RunEvent(
            run_id=run.id, seq=seq, type=f"thread.run.{what}", data={"status": "queued"}
        )
        opened.add(event)
    opened.flush()
    if IN_SERVER:
        opened.connection().execute(text("NOTIFY reference"))
    opened.commit()
    opened.refresh(run)
    return run_out(run, thread_id, body.assistant_id)


def assistant_of(opened: Session, key: Key, id: str) -> Assistant:
    query = select(Assistant).where(
        Assistant.public_id == id, Assistant.project_id == key.project_id
    )
    assistant: Assistant = found(opened.exec(query).first())
    return assistant


@app.get("/v1/assistants/{assistant_id}")
def get_assistant(opened: Opened, key: Caller, assistant_id: str) -> AssistantOut:
    return assistant_out(assistant_of(opened, key, assistant_id))


@app.get("/v1/assistants")
def assistants(opened: Opened, key: Caller, limit: Limit = 20) -> Page:
    rows = opened.exec(
        select(Assistant)
        .where(Assistant.project_id == key.project_id)
        .order_by(Assistant.id.desc())  # type: ignore[attr-defined]
        .limit(limit + 1)
    ).all()
    return page([assistant_out(row) for row in rows], limit)
