"""Accounts and groups: the stock pages, for superusers only.

With Django's own rule, whoever may change users can give any of them every permission.
"""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from assistant_manager.admin.base import SuperuserOnly

admin.site.unregister([User, Group])


@admin.register(User)
class StaffAdmin(SuperuserOnly, UserAdmin):
    ordering = ["username"]


@admin.register(Group)
class StaffGroupAdmin(SuperuserOnly, GroupAdmin):
    ordering = ["name"]
