"""One-time links that sign a member of staff in without a password."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.utils import timezone

from assistant_manager.models.projects import digest

LIFETIME = timedelta(minutes=15)


class SignInLinkQuerySet(models.QuerySet["SignInLink"]):
    def issue(self, user: AbstractBaseUser) -> str:
        """Return a code that signs `user` in once within `LIFETIME`; only its digest is kept."""
        code = secrets.token_urlsafe(24)
        self.create(user=user, digest=digest(code), expires_at=timezone.now() + LIFETIME)
        return code

    def redeem(self, code: str) -> AbstractBaseUser | None:
        """The user of an unused, unexpired code; two tabs racing cannot both have it."""
        now = timezone.now()
        link = self.filter(digest=digest(code)).select_related("user").first()
        if link is None or not link.user.is_active:
            return None
        used = self.filter(pk=link.pk, used_at=None, expires_at__gt=now).update(used_at=now)
        return link.user if used else None


class SignInLink(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    objects = SignInLinkQuerySet.as_manager()

    def __str__(self) -> str:
        return f"sign-in link for {self.user}"
