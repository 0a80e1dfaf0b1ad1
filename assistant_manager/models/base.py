"""What the rows of both apps have in common: a public id and a wall around a project."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models

from assistant_manager.ids import make_id
from assistant_manager.models.projects import Project


class ProjectQuerySet(models.QuerySet[Any]):
    """Every queryset that a door uses starts with one of these two.

    `PROJECT_PATH` leads from the row to its project.
    """

    PROJECT_PATH = "project"

    def of(self, project: Project) -> Self:
        """The rows an API key of `project` may touch."""
        return self.filter(**{self.PROJECT_PATH: project})

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """The rows a member of staff may touch: those of their projects; superusers have all."""
        if getattr(user, "is_superuser", False):
            return self.all()
        if not user.is_authenticated:
            return self.none()
        return self.filter(**{f"{self.PROJECT_PATH}__in": Project.objects.filter(members=user.pk)})


def public_id(prefix: str) -> models.CharField[str, str]:
    """The column by which a row is known outside. Rows are ordered by primary key, which
    never ties, where two `created_at` may share a second."""
    return models.CharField(
        max_length=80, unique=True, editable=False, default=partial(make_id, prefix)
    )


def auto() -> str:
    """The wire's default where it leaves a choice to the model."""
    return "auto"
