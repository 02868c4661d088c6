"""What the pages are drawn with: spans of time, charts, pills, and the figures and the chart of the overview."""

import time

import pytest
from django.urls import reverse

from jobs.broker.connections import get_connection
from jobs.dashboard import charts, overview
from jobs.dashboard.format import span
from jobs.templatetags.jobs_dashboard import pill
from tests.jobs.dashboard.pages import OVERVIEW, text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (0.000_012, "12 µs"),
        (0.0096, "9.6 ms"),
        (0.043, "43 ms"),
        (1, "1 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (163, "2 min 43 s"),
        (11_100, "3 h 5 min"),
        (3_599.9, "1 h"),
        (90_000, "1 d 1 h"),
        (-163, "-2 min 43 s"),
    ],
)
def test_a_span_has_the_units_that_one_says(seconds, shown):
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("most", "lines"),
    [
        (0, [0, 1]),
        (1, [0, 0.25, 0.5, 0.75, 1]),
        (3, [0, 1, 2, 3]),
        (199, [0, 50, 100, 150, 200]),
        (2_100, [0, 1_000, 2_000, 3_000]),
    ],
)
def test_the_lines_of_a_chart_are_round_numbers(most, lines):
    assert charts.scale(most) == lines


def test_a_chart_escapes_what_it_is_given_and_has_no_inline_style():
    drawn = charts.plot("<b>", [charts.Bar("<i>", [("ok", 1), ("failed", 2)], "12:00")], marks=[(0, "<u>")])
    drawn += charts.trend("<b>", [1, 2], "bad") + charts.meter("<b>", 3, 2) + pill("<s>")
    assert "style=" not in drawn
    for tag in ("<b>", "<i>", "<u>", "<s>"):
        assert tag not in drawn


def test_a_meter_is_full_and_amber_above_its_target():
    assert 'class="jobs-meter is-warn"' in charts.meter("", 70, 60)
    assert '<rect width="50%"' in charts.meter("", 30, 60)
    assert '<rect width="100%"' in charts.meter("", 30, 0)


def count(minutes_ago, label, number):
    get_connection("default").hincrby(f"jobs:counts:{int(time.time()) // 60 - minutes_ago}", label, number)


@pytest.mark.django_db(transaction=True)
def test_the_figures_mark_what_is_wrong(admin_client):
    count(2, "default|a.B|finished|3", 90)
    count(2, "low|a.C|retried|3", 10)
    count(20, "low|a.C|dead|3", 4)
    page = admin_client.get(reverse(OVERVIEW))
    shown = {figure.label: figure for figure in page.context["figures"]}
    assert shown["Finished per minute"].value == "18"
    assert (shown["Failing"].value, shown["Failing"].tone) == ("10 %", "bad")
    assert shown["Dead"].note == "4 more in the last hour"
    assert [line.tone for line in page.context["shown"]] == ["is-warn"] * 4 + ["is-bad"]  # no worker serves the others


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("query", "title", "series"),
    [
        ("by=by_queue", "Attempts per minute", ["low 10", "default 3"]),
        ("by=by_command&span=day", "Attempts per hour", ["a.C 10", "a.B 3"]),
        ("show=runtime", "Run time, 95th percentile", []),
        ("show=nonsense&by=nonsense", "Attempts per minute", ["ended well 3", "failed 10"]),
    ],
)
def test_the_chart_has_its_switches(query, title, series, admin_client):
    count(2, "default|a.B|finished|20", 3)
    count(2, "low|a.C|retried|20", 10)
    page = admin_client.get(f"{reverse(OVERVIEW)}?{query}")
    chart = page.context["chart"]
    assert chart["title"] == title
    assert [f"{name} {number}" for _kind, name, number in chart["key"]] == series
    assert chart["plot"].count("<rect") == max(1, len(series))


@pytest.mark.django_db(transaction=True)
def test_idle_queues_fold_beyond_some(admin_client, monkeypatch):
    count(2, "default|a.B|finished|3", 1)
    assert not admin_client.get(reverse(OVERVIEW)).context["idle"]
    monkeypatch.setattr(overview, "UNFOLDED", 3)
    page = admin_client.get(reverse(OVERVIEW))
    assert [line.row.name for line in page.context["shown"]] == ["default"]
    assert "4 idle queues" in text(admin_client, reverse(OVERVIEW))
