"""Who we speak to: one connection, by the vendor's SDK or without it. How we speak is the engines' part.

No request is repeated here but with the other key, when the upstream does not know the first; and
a look or a deletion, when the line that was kept for it turns out to be hung up. Retrying is the run's
affair, and so nothing is begun twice behind its back.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from assistant_manager.engines.base import ConnectionInfo, Key
from assistant_manager.engines.exceptions import Rejected
from assistant_manager.engines.gates import Gate, gate_of
from assistant_manager.engines.options import CONNECT_SECONDS
from assistant_manager.engines.troubles import Cut, Refused, Unreached, Unreadable, translated

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, Timeout

    from assistant_manager.engines.web import Line, Web

T = TypeVar("T")

UPLOAD_SECONDS = 300.0
OPENAI_URL = "https://api.openai.com/v1"
PATH_OF_API = re.compile(r"(/openai)?(/v1)?/*$")


def patience(seconds: float) -> Timeout:
    """For one request that may take longer than others; a server that is away is told as fast as
    ever."""
    from openai import Timeout

    return Timeout(seconds, connect=CONNECT_SECONDS)


class Client:
    """One connection, as long as its row stays as it is. Bound to one event loop."""

    def __init__(self, info: ConnectionInfo, gate: Gate) -> None:
        self.info = info
        self.gate = gate
        self._last_token = ""

    async def call(
        self, send: Callable[[AsyncOpenAI], Awaitable[T]], *, creates: bool = False
    ) -> T:
        """`send(sdk)`, with each key until one is accepted; errors become an EngineError.

        `creates`: the request begins something upstream. Then a lost reply raises Unknown instead of
        Unavailable, and the outcome tells the gate whether the upstream works.
        """
        if "_sdk" not in self.__dict__:
            # Most of a second, the first time, in which the loop would stand still.
            await asyncio.to_thread(importlib.import_module, "openai")

        async def send_signed(key: Key) -> T:
            with _told_in_our_words():
                result = await send(self._sdk.with_options(**self._sdk_credential(key)))
            if isinstance(result, str):  # what the SDK makes of anything that is not JSON
                raise Unreadable
            return result

        return await self._with_a_key(send_signed, creates=creates)

    async def ask(self, send: Callable[[Line], Awaitable[T]], *, creates: bool = False) -> T:
        """As `call`, without the SDK: for what every answer needs."""
        if "_web" not in self.__dict__:
            await asyncio.to_thread(prepare_web, self._root)

        async def send_signed(key: Key) -> T:
            return await send(self._line(key))

        return await self._with_a_key(send_signed, creates=creates)

    async def _with_a_key(self, send: Callable[[Key], Awaitable[T]], *, creates: bool) -> T:
        refusal: Exception | None = None
        for key in await self._keys():
            if not _can_be_sent(key):
                refusal = Rejected(
                    f"Key {key.number} of “{self.info.name}” has characters that no key has: "
                    "enter it anew."
                )
                self.gate.refused(key)
                continue
            try:
                result = await send(key)
            except Exception as error:
                trouble = translated(error, self, creates=creates)
                if trouble is None:
                    raise
                if not (isinstance(error, Refused) and error.status == 401):
                    raise trouble from None
                refusal = trouble
                self.gate.refused(key)
                continue
            self.gate.accepted(key)
            if creates:
                self.gate.succeeded()
            return result
        raise refusal or Rejected(f"“{self.info.name}” has no key: add one to the connection.")

    async def close(self) -> None:
        if "_sdk" in self.__dict__:
            await self._sdk.close()
        if "_web" in self.__dict__:
            await self._web.close()

    def scrubbed(self, text: str) -> str:
        """`text` without any key of ours: upstreams like to quote what they refuse."""
        for secret in filter(None, (*(key.text for key in self.info.keys), self._last_token)):
            text = text.replace(secret, "••••")
        return text

    @property
    def _is_dated_azure(self) -> bool:
        return self.info.api_version.startswith("20")

    @property
    def _uses_entra_id(self) -> bool:
        return self.info.options.authentication == "entra_id"

    def _sdk_credential(self, key: Key) -> dict[str, Any]:
        if self._is_dated_azure and self._uses_entra_id:
            return {"azure_ad_token": key.text}
        return {"api_key": key.text}

    def _line(self, key: Key) -> Line:
        """Dated Azure takes keys in a header of its own; all else is a bearer."""
        from assistant_manager.engines.web import Line

        has_own_header = self._is_dated_azure and not self._uses_entra_id
        shown = {"api-key": key.text} if has_own_header else {"Authorization": f"Bearer {key.text}"}
        return Line(self._web, shown, self.info.options.timeout_seconds)

    async def _keys(self) -> list[Key]:
        if self._uses_entra_id:
            return [Key(1, await asyncio.to_thread(self._token))]
        return self.gate.in_order(self.info.keys)

    def _token(self) -> str:
        """Blocks: it may ask the network, and loads a large library first."""
        from azure.core.exceptions import ClientAuthenticationError

        try:
            self._last_token = self._token_provider()
        except ClientAuthenticationError as error:
            reason = self.scrubbed(str(error)).splitlines()[0][:300]
            raise Rejected(f"Microsoft Entra ID gave no token: {reason}") from None
        return self._last_token

    @cached_property
    def _token_provider(self) -> Callable[[], str]:
        """Keeps the token and renews it before it lapses."""
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider

        return get_bearer_token_provider(DefaultAzureCredential(), self.info.options.entra_scope)

    @property
    def _root(self) -> str:
        """What the paths of requests begin with. Azure's dated versions have one of their own; everything
        else is plain OpenAI, Azure's v1 included, which takes its key as a bearer too."""
        if self._is_dated_azure:
            return PATH_OF_API.sub("", self.info.base_url) + "/openai"
        return self.info.base_url or OPENAI_URL

    @property
    def _query(self) -> dict[str, str]:
        return {"api-version": self.info.api_version} if self.info.api_version else {}

    @cached_property
    def _web(self) -> Web:
        from assistant_manager.engines.web import Web

        return Web(self.info.name, self._root, self._query, self.gate.learn)

    @cached_property
    def _sdk(self) -> AsyncOpenAI:
        from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        info = self.info
        common: dict[str, Any] = {
            "api_key": "set-for-each-call",
            "max_retries": 0,
            "timeout": Timeout(info.options.timeout_seconds, connect=CONNECT_SECONDS),
            # What people write goes to the address that staff have entered, and to no other.
            "http_client": DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [self._learn]}
            ),
        }
        if self._is_dated_azure:
            endpoint = self._root.removesuffix("/openai")  # the SDK adds it
            return AsyncAzureOpenAI(azure_endpoint=endpoint, api_version=info.api_version, **common)
        return AsyncOpenAI(base_url=self._root, default_query=self._query, **common)

    async def _learn(self, response: httpx2.Response) -> None:
        from assistant_manager.engines.replies import bound

        bound(response, self.info.name)
        self.gate.learn(response.headers)


def _can_be_sent(key: Key) -> bool:
    """In a header, that is: typographic quotes and line ends come along when keys are copied."""
    return key.text.isascii() and key.text.isprintable()


@contextmanager
def _told_in_our_words() -> Iterator[None]:
    """The SDK's errors as Refused, Unreached, Cut or Unreadable."""
    import httpx2
    from openai import APIConnectionError, APIResponseValidationError, APIStatusError

    try:
        yield
    except APIStatusError as error:
        if error.status_code < 300:
            raise Unreadable from error
        said = error.body if isinstance(error.body, Mapping) else {}
        raise Refused(error.status_code, error.response.headers, said) from error
    except APIConnectionError as error:
        never = httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
        raise (Unreached if isinstance(error.__cause__, never) else Cut) from error
    except APIResponseValidationError as error:
        raise Unreadable from error


def prepare_web(root: str = OPENAI_URL) -> None:
    """What would keep the loop waiting. Blocks for a fifth of a second, the first time."""
    from assistant_manager.engines import web

    web.prepare(root)


class Clients:
    """The clients of one engine, one a connection; a connection that was edited gets a new one.

    The former one stays until the end: runs that began before look on with what they were given,
    by turns with those that began since.
    """

    def __init__(self) -> None:
        self._clients: dict[int, list[Client]] = {}

    def of(self, info: ConnectionInfo) -> Client:
        clients = self._clients.setdefault(info.id, [])
        for client in reversed(clients):
            if client.info == info:
                return client
        clients.append(Client(info, gate_of(info.id, info.name)))
        return clients[-1]

    async def close(self) -> None:
        for clients in self._clients.values():
            for client in clients:
                await client.close()
        self._clients.clear()
