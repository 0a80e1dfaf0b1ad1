"""The group that turns an account into a member of staff who asks and reviews."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

STAFF = "staff"
CODENAMES = {
    "conversations": [
        *("view_run", "add_run", "view_thread", "view_review", "change_review"),
    ],
    "assistant_manager": [
        *("view_assistant", "add_assistant", "change_assistant", "view_file"),
        *("view_apikey", "add_apikey", "change_apikey"),
    ],
}


def ensure_staff_group() -> None:
    """Make the group with its permissions, where it does not exist. Safe to repeat.

    One group and no roles: which rows a person sees is decided by the projects they belong to.
    An existing group is left alone, as a superuser may have changed what it allows.
    """
    group, created = Group.objects.get_or_create(name=STAFF)
    if not created:
        return
    for label, codenames in CODENAMES.items():
        # Django makes permissions app by app after a migration; ours may be asked for first.
        create_permissions(apps.get_app_config(label), verbosity=0)
        group.permissions.add(
            *Permission.objects.filter(content_type__app_label=label, codename__in=codenames)
        )
