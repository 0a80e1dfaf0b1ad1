"""Tags and filters of the admin's shell."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.timesince import timesince

from conversations.admin.menu import menu_for
from conversations.rendering import render

register = template.Library()
register.filter("markdown", render)


@register.filter
def waited(since: datetime) -> str:
    """`timesince` calls the first minute "0 minutes"."""
    if timezone.now() - since < timedelta(minutes=1):
        return "less than a minute"
    return timesince(since, depth=1)


@register.inclusion_tag("admin/conversations/menu.html", takes_context=True)
def shell_menu(context: template.Context) -> dict[str, Any]:
    return {"groups": menu_for(context["request"])}
