import re
from pathlib import Path

import pytest
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse

from users.models import User

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["home", "exercises", "users:signup", "users:signed_up", "users:login", "users:password_reset"]


@pytest.mark.django_db
def test_the_start_page_leads_to_signing_up_and_to_the_login(client: Client) -> None:
    page = client.get("/").content.decode()

    assert f'href="{reverse("users:signup")}"' in page
    assert f'href="{reverse("users:login")}"' in page


@pytest.mark.django_db
def test_who_is_logged_in_can_log_out_from_every_page(client: Client) -> None:
    client.force_login(User.objects.create_user("learner@example.org"))

    page = client.get("/").content.decode()

    assert "learner@example.org" in page
    assert f'<form method="post" action="{reverse("users:logout")}">' in page


@pytest.mark.django_db
@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_script_and_has_no_style_of_its_own(client: Client, name: str) -> None:
    page = client.get(reverse(name)).content.decode()

    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|https?://", page)
    assert page.count("<h1>") == 1
    assert re.search(r"<title>[^<]*Jiki[^<]*</title>", page)


@pytest.mark.parametrize("name", ["404.html", "500.html", "403_csrf.html"])
def test_an_error_page_is_made_without_a_request(name: str) -> None:
    assert "<h1>" in get_template(name).render()


@pytest.mark.django_db
def test_an_unknown_address_is_answered_kindly(client: Client) -> None:
    page = client.get("/no-such-page/")

    assert page.status_code == 404
    assert "There is no such page" in page.content.decode()


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_fields_stand_out_from_what_lies_behind_them(scheme: int) -> None:
    css = (ROOT / "jiki/static/jiki/jiki.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css.split(":root {")[scheme + 1]))

    for text in ("text", "soft", "accent", "accent-hover", "error", "success"):
        for behind in ("page", "surface"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for text in ("error", "success"):
        assert contrast(colours[text], colours[f"{text}-surface"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent-hover"]) >= 4.5
    assert contrast(colours["field"], colours["surface"]) >= 3
    assert contrast(colours["field"], colours["page"]) >= 3
