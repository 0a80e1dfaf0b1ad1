"""The rows of this app; import them from here."""

from conversations.models.drivers import DriverHeartbeat
from conversations.models.events import RunEvent
from conversations.models.limits import LimitsBook
from conversations.models.reviews import AnswerRevision, Review, ReviewDecision, ReviewStatus
from conversations.models.runs import Run
from conversations.models.status import RunStatus
from conversations.models.steps import RunAttempt, RunStep
from conversations.models.threads import Message, Thread
from conversations.models.webhooks import WebhookDelivery

__all__ = [
    "AnswerRevision",
    "DriverHeartbeat",
    "LimitsBook",
    "Message",
    "Review",
    "ReviewDecision",
    "ReviewStatus",
    "Run",
    "RunAttempt",
    "RunEvent",
    "RunStatus",
    "RunStep",
    "Thread",
    "WebhookDelivery",
]
