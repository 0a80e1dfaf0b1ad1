"""The REST calls of the Assistants API, from one connection, as the JSON they are.

The SDK signs in, finds the path and reads the reply, but its typed methods are left aside: what
we store has the wire's own shape, so a model of each reply would only be taken apart again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from assistant_manager.engines.assistants.options import AssistantsOptions
from assistant_manager.engines.clients import UPLOAD_SECONDS, Client, patience
from assistant_manager.engines.exceptions import EngineError, Rejected, Unavailable, Unknown

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")
Row = dict[str, Any]

PAGE = 100
NO_SUCH_MODEL = {"model_not_found", "DeploymentNotFound"}
SWITCH = (
    "Make a connection of kind “Responses API” for the same account, and let the model names lead "
    "to it."
)


class Missing(EngineError):
    """The upstream has no such object (any more)."""


class Wire:
    def __init__(self, client: Client) -> None:
        self.client = client
        options = client.info.options
        self.options = options if isinstance(options, AssistantsOptions) else AssistantsOptions()
        self._beta = {"OpenAI-Beta": "assistants=v2"} if self.options.beta_header else {}

    async def get(self, path: str, **query: Any) -> Row:
        return await self._send(
            path, lambda sdk: sdk.get(path, cast_to=object, options=self._with(params=query))
        )

    async def post(
        self, path: str, body: Mapping[str, Any], *, once: str = "", creates: bool = True
    ) -> Row:
        """Make something, or change it. A lost reply raises Unavailable: whoever asks again looks
        first whether it was taken. `once` names the request for servers that know repeats."""
        headers = {"Idempotency-Key": once} if once else {}
        try:
            return await self._send(
                path,
                lambda sdk: sdk.post(
                    path, cast_to=object, body=dict(body), options=self._with(headers=headers)
                ),
                creates=creates,
            )
        except Unknown as error:
            raise Unavailable(str(error)) from error

    async def delete(self, path: str) -> None:
        """Gone is gone, whoever did it."""
        try:
            await self._send(
                path, lambda sdk: sdk.delete(path, cast_to=object, options=self._with())
            )
        except Missing:
            return

    async def all(self, path: str, *, after: str = "", **query: Any) -> list[Row]:
        """Every row of a list, oldest first, behind the one whose id is `after`."""
        rows: dict[str, Row] = {}
        while True:
            cursor = {"after": after} if after else {}
            page = await self.get(path, order="asc", limit=PAGE, **query, **cursor)
            known = len(rows)
            rows |= {row["id"]: row for row in page["data"]}
            if not page.get("has_more") or len(rows) == known:  # no more, or no use of cursors
                return list(rows.values())
            after = next(reversed(rows))

    async def upload(self, name: str, content: bytes, purpose: Any) -> str:
        """The upstream's id of the new file."""
        file = await self._send(
            "/files",
            lambda sdk: sdk.files.create(
                file=(name, content), purpose=purpose, timeout=patience(UPLOAD_SECONDS)
            ),
        )
        return str(file["id"])

    async def content(self, file_id: str) -> bytes:
        path = f"/files/{file_id}/content"

        async def download(sdk: AsyncOpenAI) -> bytes:
            return (await sdk.files.content(file_id, timeout=patience(UPLOAD_SECONDS))).content

        return await self.client.call(self._guarded(path, download))

    async def models(self) -> list[str]:
        listed = await self.get("/models")
        return [str(model["id"]) for model in listed["data"]]

    def _with(self, **more: Any) -> Any:
        headers = {**self._beta, **more.pop("headers", {})}
        return {"headers": headers, **more}

    async def _send(
        self, path: str, send: Callable[[AsyncOpenAI], Awaitable[Any]], *, creates: bool = False
    ) -> Row:
        async def send_and_read(sdk: AsyncOpenAI) -> Row:
            reply = await send(sdk)
            if hasattr(reply, "to_dict"):
                reply = reply.to_dict()
            if not isinstance(reply, dict):
                raise Unavailable(f"“{self._name}” sent a reply that is not what was asked for.")
            return reply

        return await self.client.call(self._guarded(path, send_and_read), creates=creates)

    def _guarded(
        self, path: str, send: Callable[[AsyncOpenAI], Awaitable[T]]
    ) -> Callable[[AsyncOpenAI], Awaitable[T]]:
        """`send`, telling what is missing from a whole API that is."""

        async def guarded(sdk: AsyncOpenAI) -> T:
            from openai import APIStatusError

            try:
                return await send(sdk)
            except APIStatusError as error:
                if trouble := self._absence(path, error):
                    raise trouble from None
                raise

        return guarded

    def _absence(self, path: str, error: APIStatusError) -> EngineError | None:
        if error.status_code == 410 or error.code == "assistants_api_deprecated":
            return Rejected(
                f"“{self._name}” no longer serves the Assistants API, which its vendor retired on "
                f"26 August 2026. {SWITCH}"
            )
        if error.status_code != 404 or error.code in NO_SUCH_MODEL:
            return None
        if path == "/assistants":  # names nothing that could be missing but itself
            return Rejected(
                f"“{self._name}” does not know the Assistants API (HTTP 404): OpenAI and Azure "
                f"retired it on 26 August 2026. {SWITCH} Where the API is still served, check the "
                "connection's address and API version."
            )
        return Missing(f"“{self._name}” has forgotten what was begun there.")

    @property
    def _name(self) -> str:
        return self.client.info.name
