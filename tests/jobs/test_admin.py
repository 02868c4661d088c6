"""The dashboard's first page: who sees it, and what it shows when Redis is away."""

import pytest
from django.contrib.auth.models import Permission
from django.test import override_settings
from django.urls import reverse

from config.queues import QUEUES, rq_queues
from tests.sample.commands.notes import ShoutNote, WriteNote
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "admin:jobs_dashboard_changelist"


def test_the_queues_stand_in_priority_order_with_their_lengths(admin_client):
    WriteNote.defer_many([(str(n),) for n in range(1_234)])
    ShoutNote.defer("x")

    page = admin_client.get(reverse(PAGE))

    assert [(name, length) for name, _, length in page.context["rows"]] == [
        ("critical", 1),
        ("default", 1_234),
        ("mailers", 0),
        ("background", 0),
        ("low", 0),
    ]
    text = page.content.decode()
    assert "1,234" in text
    assert all(purpose.partition("'")[0] in text for purpose in QUEUES.values())


def test_it_says_so_when_redis_is_away(admin_client, tmp_path):
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        page = admin_client.get(reverse(PAGE))

    assert page.status_code == 200
    assert f"No answer from Redis at unix://{tmp_path}/none.sock" in page.content.decode()


def test_only_who_may_view_it_sees_it(client):
    user = User.objects.create_user("staff@jiki.example", "x" * 12, is_staff=True)
    assert client.get(reverse(PAGE)).status_code == 302  # to the login

    client.force_login(user)
    assert client.get(reverse(PAGE)).status_code == 403
    assert reverse(PAGE) not in client.get(reverse("admin:index")).content.decode()

    user.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    assert client.get(reverse(PAGE)).status_code == 200
    assert reverse(PAGE) in client.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize("change", ["add", "1/change", "1/delete"])
def test_there_is_nothing_to_add_change_or_delete(admin_client, change):
    assert admin_client.get(f"{reverse(PAGE)}{change}/").status_code in {302, 403, 404}
