"""What the pages are drawn with: spans of time, charts, pills, and the figures and the chart of the overview."""

import re
import time

import pytest
from django.urls import reverse
from django.utils import timezone

from jobs.broker.connections import get_connection
from jobs.dashboard import charts, overview
from jobs.dashboard.format import span
from jobs.templatetags.jobs_dashboard import pill
from tests.jobs.dashboard.pages import OVERVIEW, text
from tests.sample.commands.notes import WriteNote


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


def test_the_ticks_of_a_time_axis_are_round_times_of_the_readers_clock():
    def ticks(start, step, count):
        return [text for text in charts.ticks(range(start, start + step * count, step)) if text]

    day = 1_795_910_400  # a midnight, UTC
    assert ticks(day + 5 * 60, 60, 60) == ["00:10", "00:20", "00:30", "00:40", "00:50"]
    assert ticks(day + 3_600, 3_600, 24) == ["04:00", "08:00", "12:00", "16:00", "20:00"]
    assert ticks(day + 3_600, 3_600, 72) == ["30 Nov", "01 Dec"]
    with timezone.override("Asia/Kolkata"):
        assert ticks(day, 3_600, 24) == ["08:30", "12:30", "16:30", "20:30", "00:30"]
    assert len(ticks(day, 86_400, 15)) in (4, 5)
    assert charts.ticks([]) == []
    assert charts.ticks([day]) == ["00:00"]


@pytest.mark.django_db(transaction=True)
def test_the_figures_mark_what_is_wrong(admin_client):
    count(2, "default|a.B|finished|3", 90)
    count(2, "low|a.C|retried|3", 10)
    count(20, "low|a.C|dead|3", 4)
    page = admin_client.get(reverse(OVERVIEW))
    shown = {figure.label: figure for figure in page.context["figures"]}
    assert shown["Finished / min"].value == "18"
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
        ("show=wait", "Longest wait of a first job", []),
        ("show=wait&by=by_queue&span=3days", "Longest wait of a first job", []),
        ("show=nonsense&by=nonsense", "Attempts per minute", ["ended well 3", "failed 10"]),
    ],
)
def test_the_chart_has_its_switches(query, title, series, admin_client):
    count(2, "default|a.B|finished|20", 3)
    count(2, "low|a.C|retried|20", 10)
    get_connection("default").hset(f"jobs:samples:{int(time.time()) // 60}", "low", "7 163")
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


@pytest.mark.django_db(transaction=True)
def test_the_figures_say_what_is_usual_and_how_it_went(admin_client, one_minute):
    client, now = get_connection("default"), int(time.time())
    page = admin_client.get(reverse(OVERVIEW))
    assert {figure.usual for figure in page.context["figures"]} == {""}
    for days in range(1, 4):
        fields = {"queue|low": "6000 60 12 0.1 0.2 7200 40", "queue|default": "600 6 0 0.1 0.2 720 3"}
        client.hset(f"jobs:digest:{now // 3_600 - 24 * days}", mapping=fields)
    job = WriteNote.defer("x", queue="low")
    client.hset(job.key, "enqueued_at", "2026-01-01T00:00:00.000000Z")
    client.hset(f"jobs:samples:{now // 60 - 1}", mapping={"low": "1 9000", "|threads": "7 10"})
    page = admin_client.get(reverse(OVERVIEW))
    shown = {figure.label: figure for figure in page.context["figures"]}
    usual = {label: figure.usual for label, figure in shown.items()}
    assert usual == {
        "Finished / min": "usually 109",
        "Failing": "usually 1 %",
        "Longest wait": "usually 40 s",
        "Threads busy": "usually 2.2",
        "Dead": "usually 12 an hour",
    }
    assert "<small>usually 109</small>" in page.content.decode()
    for label in ("Longest wait", "Threads busy"):
        assert "118.0,2.0" in shown[label].spark  # the minute before the last one is the highest


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("span", "index"), [("hour", 49), ("day", 23), ("3days", 71)])
def test_a_deploy_is_marked_where_it_was(span, index, admin_client, one_minute):
    client, now = get_connection("default"), int(time.time())
    now -= now % 3_600 - 1_800 if span != "hour" else 0
    client.hset("jobs:releases", mapping={"a" * 40: f"{now - 600} {now}", "<v1>": f"{now - 400_000} {now}"})
    page = admin_client.get(reverse(OVERVIEW), {"span": span})
    chart = page.context["chart"]
    assert [mark.text for mark in chart["deploys"]] == [f"deploy {'a' * 16}…"]
    width = 100 / page.context["numbers"].count('<th scope="row">')
    assert f'<line class="jobs-mark" x1="{index * width:.2f}'.rstrip("0").rstrip(".") in chart["plot"]


@pytest.mark.django_db(transaction=True)
def test_waits_are_those_of_the_samples_and_of_the_digests(admin_client):
    client, now = get_connection("default"), int(time.time())
    client.hset(f"jobs:samples:{now // 60 - 2}", mapping={"low": "1 163", "default": "1 9"})
    client.hset(f"jobs:samples:{now // 60}", mapping={"default": "1 20"})
    client.hset(f"jobs:digest:{now // 3_600 - 2}", mapping={"queue|low": "0 0 0 0 0 0 7200"})
    page = admin_client.get(reverse(OVERVIEW), {"show": "wait"})
    assert re.findall("<td>([^<]+)</td>", page.content.decode()) == ["20 s in default", "2 min 43 s in low"]
    page = admin_client.get(reverse(OVERVIEW), {"show": "wait", "span": "day"})
    assert re.findall("<td>([^<]+)</td>", page.context["numbers"])[1:] == ["2 h in low"]
    assert not page.context["chart"]["breakdowns"]
