"""Another Assistants server answers: OpenAI's, Azure's, Azure's agents, or this very product."""

from assistant_manager.engines.assistants.engine import AssistantsEngine

__all__ = ["AssistantsEngine"]
