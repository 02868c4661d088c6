"""What the dashboard's tests share: addresses, texts of pages, people with some rights."""

from django.contrib.auth.models import Permission
from django.urls import reverse
from redis.connection import AbstractConnection

from jobs.dashboard.permissions import PERMISSIONS
from users.models import User

OVERVIEW = "admin:jobs_dashboard_changelist"


def url(name, *args):
    return reverse(f"admin:jobs_{name}", args=args)


def text(client, address, status=200):
    response = client.get(address)
    assert response.status_code == status, response
    return response.content.decode()


def send(client, address, **data):
    """Press a button, say yes where it asks, and see the page after it."""
    page = client.post(address, data)
    if page.status_code == 200:
        kept = {}
        for name, value in page.context["kept"]:
            kept.setdefault(name, []).append(value)
        page = client.post(page.context["action"], {**kept, "confirmed": "1"})
    assert page.status_code == 302, page
    return client.get(page.url).content.decode()


def staff(*rights):
    user = User.objects.create_user(f"{'-'.join(rights) or 'none'}@jiki.example", "x" * 12, is_staff=True)
    for right in rights:
        user.user_permissions.add(Permission.objects.get(codename=PERMISSIONS[right].removeprefix("jobs.")))
    return user


def count_trips(monkeypatch):
    """A list that grows with each round trip to Redis."""
    made = []
    send = AbstractConnection.send_packed_command

    def counted(self, *args, **kwargs):
        made.append(args)
        return send(self, *args, **kwargs)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return made
