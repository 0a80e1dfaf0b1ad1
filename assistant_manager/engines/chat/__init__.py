"""Any server that speaks Chat Completions: we hold the thread, run the code and close the loop.

One attempt is a chain of rounds, each one request. Its input is built from our rows alone: the
messages, then every step so far. So a round after a crash is the same as a round without one.
"""

from assistant_manager.engines.chat.engine import ChatEngine

__all__ = ["ChatEngine"]
