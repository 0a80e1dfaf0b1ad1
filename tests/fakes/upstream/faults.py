"""What can go wrong on the way: by script, one fault a request, or by chance (`Chaos`).

Refused, so nothing was made: `429`, `billing`, `500`, `503`, `html`, `garbage`, `401`, `context`,
`unsupported`, `filtered`, `missing_file`, `missing_model`, `cut_before`. Taken, but the sender cannot know:
`cut_after`, `500_after`, `cut_middle`. Taken, and answered late: `slow`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, NoReturn

from aiohttp import web

from tests.fakes.upstream.call import CUT, Call, Refused

PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"


class Chaos:
    """Faults by chance, from a seed, so that a bad day can be had again; `path`: how the paths
    end that have them."""

    def __init__(self, rates: Mapping[str, float], seed: int = 1, path: str = "") -> None:
        self.rates, self.path = dict(rates), path
        self.random = random.Random(seed)

    def draw(self, path: str) -> str | None:
        if not self.rates or not path.endswith(self.path):
            return None
        place = self.random.random()
        for name, rate in self.rates.items():
            if place < rate:
                return self.random.choice(("cut_before", "cut_after")) if name == "cut" else name
            place -= rate
        return None


def hang_up(call: Call) -> NoReturn:
    """Closes the connection without another word."""
    call.entry.status = CUT
    if call.request.transport is not None:
        call.request.transport.close()
    raise ConnectionResetError


def before(call: Call) -> web.Response | None:
    """What happens to a request before it is taken. None: it may go on."""
    if call.fault is None:
        return None
    if call.fault == "cut_before":
        hang_up(call)
    if call.fault == "html":
        return web.Response(text=PAGE, status=502, content_type="text/html")
    if call.fault == "garbage":
        return web.Response(body=b"\x00 this is no JSON {", headers={"Content-Type": "text/plain"})
    if call.fault in REFUSALS:
        raise REFUSALS[call.fault](call)
    return None


async def taken(call: Call) -> None:
    """What happens between the work and its answer, once."""
    if call.fault == "cut_after":
        hang_up(call)
    if call.fault == "500_after":
        raise internal_error(call)
    if call.fault == "slow":
        call.fault = None
        await asyncio.sleep(call.script.get("delay", 1))


async def after(call: Call, response: web.StreamResponse) -> web.StreamResponse:
    """What happens to an answer on its way. Streams look after themselves."""
    if call.fault is None or not isinstance(response, web.Response):
        return response
    await taken(call)
    if call.fault == "cut_middle":
        await cut_in_half(call, response)
    return response


async def cut_in_half(call: Call, whole: web.Response) -> NoReturn:
    body = bytes(whole.body or b"")  # type: ignore[arg-type]
    half = web.StreamResponse(status=whole.status, headers=whole.headers)
    half.content_length = len(body)
    await half.prepare(call.request)
    await half.write(body[: len(body) // 2])
    hang_up(call)


def rate_limited(call: Call) -> Refused:
    wait = call.script.get("retry_after", 0.2)
    headers = {
        "retry-after": str(wait),
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": f"{int(wait * 1000)}ms",
    }
    message = f"Rate limit is exceeded. Try again in {wait} seconds."
    if call.flavour != "openai":
        return Refused.at_the_gateway(429, message, headers)
    return Refused(429, message, type="requests", code="rate_limit_exceeded", headers=headers)


def out_of_money(call: Call) -> Refused:
    message = "You exceeded your current quota, please check your plan and billing details."
    return Refused(429, message, type="insufficient_quota", code="insufficient_quota")


def internal_error(call: Call) -> Refused:
    return Refused(500, "The server had an error processing your request.", type="server_error")


def overloaded(call: Call) -> Refused:
    return Refused(
        503,
        "The engine is currently overloaded, please try again later.",
        type="service_unavailable_error",
        code="server_is_overloaded",
    )


def wrong_key(call: Call) -> Refused:
    if call.flavour != "openai":
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        return Refused.at_the_gateway(401, message)
    key = key_of(call.request.headers) or ""
    message = f"Incorrect API key provided: {key[:3]}****{key[-4:]}."
    return Refused(401, message, code="invalid_api_key")


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key a request shows, as a bearer token or in Azure's way."""
    return (
        headers.get("api-key") or headers.get("Authorization", "").removeprefix("Bearer ") or None
    )


def missing_file(call: Call) -> Refused:
    id = next(iter(file_ids(call.body)), "file-missing")
    return Refused(404, f"No such File object: {id}", param="file_id", code="not_found")


def file_ids(value: Any) -> list[str]:
    """Every file that a request names, wherever it stands."""
    if isinstance(value, list):
        return [id for item in value for id in file_ids(item)]
    if not isinstance(value, dict):
        return []
    named = [value["file_id"]] if isinstance(value.get("file_id"), str) else []
    named += [id for id in value.get("file_ids") or () if isinstance(id, str)]
    return named + [id for item in value.values() for id in file_ids(item)]


def missing_model(call: Call) -> Refused:
    model = (call.body or {}).get("model")
    if call.flavour == "openai":
        message = f"The model '{model}' does not exist or you do not have access to it."
        return Refused(404, message, param="model", code="model_not_found")
    return Refused(404, "The API deployment does not exist.", code="DeploymentNotFound")


def context_exceeded(call: Call) -> Refused:
    message = "Your input exceeds the context window of this model."
    return Refused(400, message, param="input", code="context_length_exceeded")


def unsupported(call: Call) -> Refused:
    name = call.script.get("unsupported", "temperature")
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return Refused(400, message, param=name, code="unsupported_parameter")


def filtered(call: Call) -> Refused:
    message = "The response was filtered due to the prompt triggering the content policy."
    return Refused(400, message, param="prompt", code="content_filter")


REFUSALS = {
    "429": rate_limited,
    "billing": out_of_money,
    "500": internal_error,
    "503": overloaded,
    "401": wrong_key,
    "missing_file": missing_file,
    "missing_model": missing_model,
    "context": context_exceeded,
    "unsupported": unsupported,
    "filtered": filtered,
}
