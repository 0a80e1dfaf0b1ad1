from assistant_manager.models.assistants import Assistant, ReleasePolicy
from assistant_manager.models.connections import Connection, ConnectionKind, Model
from assistant_manager.models.files import File, FileCopy
from assistant_manager.models.idempotency import IdempotencyKey
from assistant_manager.models.projects import ApiKey, Project
from assistant_manager.models.sign_in import SignInLink

__all__ = [
    "ApiKey",
    "Assistant",
    "Connection",
    "ConnectionKind",
    "File",
    "FileCopy",
    "IdempotencyKey",
    "Model",
    "Project",
    "ReleasePolicy",
    "SignInLink",
]
