"""The Responses API of OpenAI, Azure (v1) and servers like them: one background response an attempt.

A Turn becomes a request (`inputs`, `requests`, with `files` gone before it), the response
becomes items (`output`, `citations`) and an outcome (`status`); `engine` sends and asks.
Every request carries its whole input: the upstream is asked to remember nothing.
"""

from assistant_manager.engines.responses.engine import ResponsesEngine

__all__ = ["ResponsesEngine"]
