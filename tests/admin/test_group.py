"""The group that makes an account a member of staff."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission, User

from assistant_manager.models import Project
from conversations.groups import CODENAMES, STAFF, ensure_staff_group
from conversations.models import Run
from tests.admin.conftest import signed_in
from tests.factories import make_assistant


def test_the_group_and_a_project_are_all_a_person_needs(project: Project) -> None:
    user = User.objects.create_user("mira", is_staff=True)
    user.groups.add(Group.objects.get(name=STAFF))
    project.members.add(user)
    assistant, client = make_assistant(project=project), signed_in(user)
    data = {"assistant": assistant.pk, "text": "x?"}
    assert client.post("/admin/conversations/run/add/", data).status_code == 302
    assert Run.objects.get().asked_by == user
    for url in ("conversations/review/waiting", "conversations/thread", "assistant_manager/apikey"):
        assert client.get(f"/admin/{url}/").status_code == 200


def test_the_group_gives_every_permission_it_names(db: None) -> None:
    named = {codename for codenames in CODENAMES.values() for codename in codenames}
    given = Group.objects.get(name=STAFF).permissions.values_list("codename", flat=True)
    assert set(given) == named


def test_what_a_superuser_made_of_the_group_stays(db: None) -> None:
    group = Group.objects.get(name=STAFF)
    group.permissions.set(Permission.objects.filter(codename="view_run"))
    ensure_staff_group()
    assert group.permissions.count() == 1
