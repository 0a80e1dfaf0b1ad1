"""Projects, the walls between teams, and the API keys that open one of them."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.utils import timezone

from assistant_manager.models.prepared import Prepared

KEY_PREFIX = "am-"
USE_NOTED_EVERY = timedelta(minutes=1)


class ProjectManager(models.Manager["Project"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> models.QuerySet[Project]:
        if getattr(user, "is_superuser", False):
            return self.all()
        return self.filter(members=user.pk) if user.is_authenticated else self.none()


class Project(models.Model):
    """Every assistant, thread, file and API key belongs to one."""

    name = models.SlugField(max_length=64, unique=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="projects",
        help_text="Staff who may see and change what belongs to this project.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ProjectManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


def digest(token: str) -> str:
    """Tokens hold 256 random bits, so one round of SHA-256 is as good as a slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def for_token(self, token: str) -> ApiKey | None:
        """The usable key with this token, or None; wrong, expired and revoked look alike."""
        key = KEY_BY_DIGEST.first(digest=digest(token))
        return key if key is not None and key.is_usable(timezone.now()) else None

    def issue(
        self,
        *,
        project: Project,
        name: str,
        expires_in: timedelta | None = None,
        created_by: AbstractBaseUser | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; the token is returned here once and stored nowhere."""
        token = KEY_PREFIX + secrets.token_urlsafe(32)
        key = self.create(
            project=project,
            name=name,
            digest=digest(token),
            hint=token[-4:],
            expires_at=timezone.now() + expires_in if expires_in else None,
            created_by=created_by,
        )
        return key, token

    def revoke(self) -> int:
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())

    def note_use(self, key: ApiKey, now: datetime) -> None:
        """Remember the day's traffic without a write per request."""
        if key.last_used_at is None or now - key.last_used_at > USE_NOTED_EVERY:
            self.filter(pk=key.pk).update(last_used_at=now)


class ApiKey(models.Model):
    """A program's way in. Only a digest is kept; several per project, so that they can rotate."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, editable=False, related_name="+"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (…{self.hint})"

    def is_usable(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


KEY_BY_DIGEST = Prepared(
    lambda digest: ApiKey.objects.filter(digest=digest).select_related("project")
)
"""Asked on every request."""
