"""`manage.py jobs` as a person types it, and as a script calls it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import OperationalError, connections
from django.test import override_settings

from config.queues import rq_queues
from jobs import queues
from jobs.broker.connections import get_connection
from jobs.broker.times import iso
from jobs.cli import run as cli_run
from jobs.cli import stats
from jobs.cli.output import sparkline
from jobs.inspection import find
from jobs.job import JobState
from jobs.scheduler import Entry, add
from tests.processes import ROOT, child_environment
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote
from tests.sample.commands.trouble import TroubleTwice
from tests.sample.commands.waiting import Measure
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def jobs(*words, code=0):
    """What the command says to a script, which has no terminal."""
    said, complained = StringIO(), StringIO()
    ended = 0
    try:
        call_command("jobs", *words, stdout=said, stderr=complained)
    except CommandError as error:
        ended = error.returncode
    assert ended == code, complained.getvalue()
    return said.getvalue() if "--json" not in words else json.loads(said.getvalue())


def refused(*words):
    """The sentence with which it refuses."""
    with pytest.raises(CommandError) as error:
        call_command("jobs", *words, stdout=StringIO(), stderr=StringIO())
    assert error.value.returncode == 1
    return str(error.value)


@pytest.fixture
def dead(worker):
    """Three dead jobs, one of them of another queue."""
    made = [Fail.defer("first"), Fail.defer("second"), Fail.defer("third", queue="low")]
    worker.run()
    return made


def ids(*words):
    return {job["id"] for job in jobs("list", "--json", *words)["jobs"]}


# --- looking ---------------------------------------------------------------------------------


def test_a_list_is_a_line_for_each_job(dead):
    piped = jobs("list", "--state", "dead")
    lines = [line.split("\t") for line in jobs("list", "--state", "dead", "--header").splitlines()]

    assert piped == "".join("\t".join(line) + "\n" for line in lines[1:])

    assert lines[0] == ["id", "state", "queue", "at", "attempts", "description", "reason"]
    assert {line[0] for line in lines[1:]} == {job.id for job in dead}
    assert {tuple(line[1:3]) for line in lines[1:]} == {("dead", "default"), ("dead", "low")}
    assert "RuntimeError: first" in {line[-1] for line in lines[1:]}


def test_a_list_takes_the_dashboards_filters(dead):
    waiting = WriteNote.defer("waiting")
    first, second, third = dead

    assert ids() == {waiting.id, first.id, second.id, third.id}
    assert ids("--state", "dead", "--queue", "low") == {third.id}
    assert ids("--state", "dead", "--state", "queued", "--text", "wait") == {waiting.id}
    assert ids("--command", "sample.WriteNote") == {waiting.id}
    assert ids("--error", "RuntimeError", "--text", "sec") == {second.id}
    assert ids("--error", "ValueError") == set()
    assert ids("--state", "dead", "--since", "2000-01-01") == {first.id, second.id, third.id}
    assert ids("--state", "dead", "--until", "2000-01-01T12:00+02:00") == set()
    assert len(ids("--limit", "2")) == 2
    behind = WriteNote.defer("behind")
    oldest, newest = (
        [job["id"] for job in jobs("list", "--json", "--state", "queued", "--order", order)["jobs"]]
        for order in ("oldest", "newest")
    )
    assert oldest == [waiting.id, behind.id]
    assert newest == [behind.id, waiting.id]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("sample.WriteNot", " Did you mean 'sample.WriteNote'?"),
        ("elsewhere.Zzz", ""),
    ],
)
def test_a_name_that_no_command_has_is_named_if_nothing_matches(name, meant, valkey, capsys):
    for words in (["list"], ["cancel", "--state", "queued", "--yes"]):
        complained = StringIO()
        call_command("jobs", *words, "--command", name, stdout=StringIO(), stderr=complained)
        assert complained.getvalue() == f"No command is called {name!r}.{meant}\n"
    assert jobs("list", "--command", "sample.WriteNote") == ""


def test_a_name_without_its_app_that_no_command_has_is_refused(valkey):
    for words in (["list"], ["cancel", "--state", "queued", "--yes"]):
        with pytest.raises(CommandError, match=r"No command is called 'writenote'\. Did you mean WriteNote\?"):
            call_command("jobs", *words, "--command", "writenote", stdout=StringIO(), stderr=StringIO())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pauze", "low"], "'pauze' is none of stats, list, "),
        (["list", "--state", "ded"], "argument --state: 'ded' is none of "),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(words, said, valkey):
    with pytest.raises(CommandError) as error:
        call_command("jobs", *words)
    assert said in str(error.value)
    assert str(error.value).endswith({"pauze": " Did you mean 'pause'?", "list": " Did you mean 'dead'?"}[words[0]])


def test_recurring_entries_are_listed_paused_resumed_and_run(valkey):
    add(Entry("at night", WriteNote, args=("x",), cron="30 3 * * *", timezone="Europe/Berlin"))
    add(Entry("hourly", WriteNote, args=("y",), every=3_600))

    assert jobs("recurring", "pause", "at night") == "The recurring entry 'at night' is paused.\n"
    header, night, hourly = (line.split("\t") for line in jobs("recurring", "--header").splitlines())
    assert header == ["name", "times", "next", "last run", "queue", "call"]
    assert night == ["at night", "30 3 * * *", "paused", "none", "default", "sample.WriteNote('x')"]
    assert hourly[1] == "every 1 h"
    shown = jobs("recurring", "list", "at night", "--json")["entries"]
    assert [(entry["name"], entry["paused"], entry["timezone"]) for entry in shown] == [
        ("at night", True, "Europe/Berlin")
    ]
    assert jobs("recurring", "resume", "at night", "--json") == {"entries": [{"name": "at night", "paused": False}]}
    (ran,) = jobs("recurring", "run", "hourly", "--json")["entries"]
    assert (ran["name"], find(ran["job"]).state) == ("hourly", JobState.QUEUED)
    assert jobs("recurring", "--json", "list", "hourly")["entries"][0]["last_run"]["job"] == ran["job"]
    assert "Name them: jobs recurring pause NAME" in refused("recurring", "pause")
    assert "no recurring entry 'at nigt'. Did you mean 'at night'?" in refused(
        "recurring", "pause", "hourly", "at nigt"
    )
    assert not any(entry["paused"] for entry in jobs("recurring", "--json")["entries"])


def test_the_shape_of_a_list_in_json(dead):
    (job,) = jobs("list", "--json", "--text", "third")["jobs"]

    assert list(job) == [
        *("id", "queue", "state", "command", "description", "reason", "at", "started_at", "ended_at", "worker"),
        *("attempts", "fingerprint", "collapsed"),
    ]
    assert job["description"] == "sample.Fail('third')"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("list", "--since", "whenever"), "'whenever' is not a time"),
        (("list", "--since", "2026-13-01"), "'2026-13-01' is not a time"),
        (("list", "--limit", "0"), "'0' is not a number of jobs"),
        (("list", "--state", "asleep"), "argument --state: 'asleep' is none of queued, "),
        (("list", "--queue", "nope"), "Unknown queue: 'nope'. The queues are: critical"),
        (("stats", "--interval", "0"), "--interval 0.0 is impossible"),
        (("pause", "low", "nope"), "Unknown queue: 'nope'"),
        (("retry",), "Which jobs? Give their ids, or filters with --state"),
        (("retry", "--queue", "low"), "Which jobs?"),
        (("retry", "some-id", "--state", "dead"), "not both: --state was given, too"),
        (("move", "--state", "queued", "--to", "nope", "--yes"), "Unknown queue: 'nope'"),
        (("run", "sample.Nothing"), "Unknown command: 'sample.Nothing'"),
        (("run", "sample.WriteNote"), "missing a required argument: 'text'. It takes (text: str)"),
        (("run", "sample.WriteNote", "--args", "[1"), "--args '[1' is not valid JSON"),
        (("run", "sample.WriteNote", "--args", "7"), "--args '7' must be a list, such as [7]"),
        (("run", "sample.WriteNote", "--kwargs", "[]"), "--kwargs '[]' must be an object"),
        (("run", "sample.WriteNote", "--args", '["x"]', "--queue", "low"), "--queue needs --defer."),
        (("run", "sample.WriteNote", "--args", '["x"]', "--defer", "--queue", "no"), "Unknown queue: 'no'"),
        (("run", "sample.WriteNote", "--args", "[7]", "--defer"), "field 'text' is annotated str, but was given 7"),
        (("run", "sample.ShoutNote", "--args", "[9]", "--defer"), 'as in a payload: {"$record": "users.User:7"}'),
        (("run", "sample.ShoutNote", "--args", '[{"$record": "sample.Note:9"}]'), "are gone: sample.Note:9"),
        (("run", "sample.Fail", "--args", '["oh"]'), "sample.Fail failed: RuntimeError: oh"),
        (("run", "sample.InGroup", "--args", '[["flaky"]]'), "ExceptionGroup: several (1): FlakyError: as planned"),
        (("run", "sample.ReturnUnrun"), "TypeError: ReturnUnrun.call returned a generator, so its body has not run"),
    ],
)
def test_what_is_refused_is_named(words, sentence, valkey):
    assert sentence in refused(*words)
    assert queues.paused() == set()


def test_a_job_is_shown_with_all_that_happened_to_it(dead):
    told = jobs("show", dead[0].id)
    assert "sample.Fail('first')" in told
    assert "reason         RuntimeError: first" in told
    assert "Traceback" in told

    (job,) = jobs("show", "--json", dead[0].id)["jobs"]
    assert job["state"] == "dead"
    assert [event["name"] for event in job["history"]] == ["queued", "started", "failed"]
    assert job["traceback"].rstrip().endswith("RuntimeError: first")


def test_what_a_job_reported_and_returned_is_shown(worker):
    job = Measure.defer(3)
    worker.run()
    told = jobs("show", job.id)
    assert "report         3 of 3 (100 %), counting" in told
    assert "returned       3" in told
    (shown,) = jobs("show", "--json", job.id)["jobs"]
    assert (shown["report"], shown["returned"]) == ("3 of 3 (100 %), counting", "3")


def test_what_a_job_waits_for_is_shown(dead):
    blocked = WriteNote.defer("x", prereq_jobs=[dead[0]])

    assert jobs("list").count(f"{blocked.id}\tblocked") == 1
    (job,) = jobs("show", "--json", blocked.id)["jobs"]
    assert (job["state"], job["blocked_by"], job["prerequisites"]) == ("blocked", [dead[0].id], [dead[0].id])
    assert jobs("show", "--json", dead[0].id)["jobs"][0]["dependents"] == [blocked.id]


def test_a_job_that_is_not_there_is_refused_and_the_others_are_shown(dead):
    assert [job["id"] for job in jobs("show", "--json", "nobody", dead[0].id, code=1)["jobs"]] == [dead[0].id]


def test_private_arguments_are_not_shown(worker, settings):
    settings.JOBS = settings.JOBS | {"FILTERED_FIELDS": ["text"]}
    secret, filtered, named = KeepSecret.defer("hunter2"), WriteNote.defer("hunter3"), WriteNote.defer(text="hunter4")
    told = jobs("list") + jobs("show", secret.id, filtered.id, named.id) + str(jobs("list", "--json"))

    assert "hunter" not in told
    assert "sample.KeepSecret(...)" in told
    assert "sample.WriteNote([filtered])" in told
    assert "sample.WriteNote(text=[filtered])" in told


def test_what_a_job_says_cannot_steer_the_terminal(worker):
    job = Fail.defer("\x1b]0;title\x07\x1b[2J")
    worker.run()

    assert "\x1b" not in jobs("list") + jobs("show", job.id)
    assert "\x1b]0" not in on_a_terminal("list")[1]


def test_the_attempts_of_a_job_are_those_that_ended_however_they_did_and_the_running_one(worker):
    once, thrice, later = WriteNote.defer("x"), TroubleTwice.defer(), WriteNote.defer("y", wait=1_000)

    def attempts():
        shown = [job["attempts"] for job in jobs("show", once.id, thrice.id, later.id, "--json")["jobs"]]
        listed = {job["id"]: job["attempts"] for job in jobs("list", "--json")["jobs"]}
        assert [listed[job.id] for job in (once, thrice, later)] == shown
        return shown

    worker.run()
    assert attempts() == [1, 1, 0]
    worker.hurry()
    get_connection("default").zadd("rq:scheduled:default", {later.id: time.time() + 1_000})
    worker.run()
    assert attempts() == [1, 2, 0]
    worker.hurry()
    get_connection("default").zadd("rq:scheduled:default", {later.id: time.time() + 1_000})
    worker.run()
    assert thrice.state == JobState.DEAD
    assert attempts() == [1, 3, 0]


# --- changing --------------------------------------------------------------------------------


def test_jobs_are_changed_by_their_ids(dead, worker):
    assert jobs("retry", dead[0].id) == "1 job was retried.\n"
    assert dead[0].state == JobState.QUEUED
    assert jobs("move", "--to", "low", dead[0].id) == "1 job was moved to low.\n"
    assert find(dead[0].id).origin == "low"
    jobs("cancel", dead[0].id)
    assert dead[0].state == JobState.CANCELLED
    assert jobs("delete", "--json", dead[0].id, dead[1].id) == {"changed": 2, "refused": []}
    assert dead[0].state is dead[1].state is None
    later = WriteNote.defer("later", wait=1_000)
    jobs("run-now", later.id)
    assert later.state == JobState.QUEUED


def test_jobs_are_changed_by_filters(dead):
    assert jobs("retry", "--state", "dead", "--error", "RuntimeError", "--queue", "default", "--yes") == (
        "2 jobs were retried.\n"
    )
    assert [job.state for job in dead] == ["queued", "queued", "dead"]
    assert jobs("delete", "--state", "queued", "--limit", "1", "--yes") == "1 job was deleted.\n"
    assert jobs("cancel", "--state", "retrying", "--yes", "--json") == {"changed": 0, "refused": []}


def test_jobs_are_moved_by_filters(valkey):
    made = WriteNote.defer_many([(str(number),) for number in range(3)])
    assert jobs("move", "--to", "low", "--state", "queued", "--yes") == "3 jobs were moved to low.\n"
    assert [find(job.id).origin for job in made] == ["low"] * 3
    assert get_connection("low").lrange("rq:queue:low", 0, -1) == [job.id.encode() for job in made]


def test_what_a_job_refuses_is_told_and_the_others_are_changed(dead):
    waiting = WriteNote.defer("waiting")
    told = jobs("retry", "--json", waiting.id, "nobody", dead[0].id, code=1)

    assert told["changed"] == 1
    assert [(each["id"], each["reason"]) for each in told["refused"]] == [
        (waiting.id, f"Job {waiting.id} cannot be retried: it is queued."),
        ("nobody", "There is no record of job nobody."),
    ]


def test_without_a_terminal_a_change_by_filters_needs_yes(dead, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))

    assert refused("delete", "--state", "dead") == "Delete 3 jobs? Cannot ask without a terminal: pass --yes."
    assert [job.state for job in dead] == ["dead"] * 3


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 3), ("", 3)])
def test_on_a_terminal_it_asks(answer, left, dead):
    code, told = on_a_terminal("delete", "--state", "dead", answers={"[y/N]": answer + "\n"})

    assert "Delete 3 jobs? [y/N]" in told
    assert code == (0 if left == 0 else 1)
    assert [job.state for job in dead].count("dead") == left


def test_a_table_on_a_terminal_cuts_no_id(dead):
    code, told = on_a_terminal("list", "--state", "dead")

    assert code == 0
    assert all(job.id in told for job in dead)


def test_many_changes_show_a_bar_on_a_terminal(worker):
    made = WriteNote.defer_many([(str(number),) for number in range(130)])
    code, told = on_a_terminal("cancel", "--state", "queued", "--yes")

    assert code == 0
    assert "130 jobs were cancelled." in told
    assert "100%" in told
    assert {job.state for job in made} == {"cancelled"}


def test_queues_are_paused_and_resumed(valkey):
    assert jobs("pause", "low", "mailers") == "The queue low is paused.\nThe queue mailers is paused.\n"
    assert queues.paused() == {"low", "mailers"}
    assert jobs("resume", "--json", "low") == {"queues": [{"name": "low", "paused": False}]}
    assert queues.paused() == {"mailers"}


# --- running ---------------------------------------------------------------------------------


def test_a_command_runs_here(valkey):
    note = Note.objects.create(text="hello")
    record = json.dumps([{"$record": f"sample.Note:{note.pk}"}])

    assert jobs("run", "sample.ShoutNote", "--args", record, "--kwargs", '{"times": 2}') == (
        "sample.ShoutNote returned 'HELLO!!'.\n"
    )
    assert jobs("run", "--json", "sample.KeepSecret", "--args", '["x"]') == {
        "command": "sample.KeepSecret",
        "result": None,
    }


def test_a_command_is_deferred(valkey):
    made = jobs("run", "sample.WriteNote", "--args", '["x"]', "--defer", "--queue", "low", "--wait", "60", "--json")

    assert {**made, "id": ""} == {"id": "", "queue": "low", "duplicate": False, "state": "scheduled"}
    assert find(made["id"]).command_args == ["x"]
    assert "Enqueued: job" in jobs("run", "sample.WriteNote", "--args", '["x"]', "--defer")


def test_jobs_that_collapse_say_so_in_show_and_run(valkey):
    words = ("run", "sample.Save", "--args", '[7, "x"]', "--defer")
    made = jobs(*words, "--json")
    assert jobs(*words) == f"Collapsed into job {made['id']}.\n"
    assert re.search(r"^history +\S+ \S+ collapsed once$", jobs("show", made["id"]), re.MULTILINE)
    (shown,) = jobs("show", made["id"], "--json")["jobs"]
    assert [event["name"] for event in shown["history"]] == ["queued", "collapsed"]
    (row,) = jobs("list", "--state", "scheduled", "--json")["jobs"]
    assert row["collapsed"] == 1
    assert "its Collapse(wait=60" in refused(*words, "--wait", "5")


@pytest.mark.parametrize(("command", "end", "code"), [(WriteNote, "finished", 0), (Fail, "dead", 1)])
def test_a_deferred_command_is_followed_to_its_end(command, end, code, worker):
    done = threading.Event()

    def work():
        try:
            while not done.is_set() and not worker.run():
                pass
        finally:
            connections.close_all()  # this thread's

    thread = threading.Thread(target=work)
    thread.start()
    try:
        told = jobs("run", f"sample.{command.__name__}", "--args", '["x"]', "--defer", "--follow", "--json", code=code)
    finally:
        done.set()
        thread.join()
    assert told["state"] == end
    assert ("RuntimeError" in told["reason"]) == (end == "dead")


# --- figures ---------------------------------------------------------------------------------


def test_the_figures(worker):
    WriteNote.defer("done")
    Fail.defer()
    worker.run()
    WriteNote.defer("waiting", queue="critical")
    queues.pause("low")
    get_connection("default").hset(WriteNote.defer("old").key, "enqueued_at", "2026-01-01T00:00:00.000000Z")
    found = jobs("stats", "--json")

    by_name = {queue["name"]: queue for queue in found["queues"]}
    assert list(by_name) == ["critical", "default", "mailers", "background", "low"]
    assert by_name["critical"]["length"] == 1
    assert by_name["critical"]["target_seconds"] == 1.0
    assert by_name["default"]["latency_seconds"] > 60
    assert by_name["default"]["finished_per_minute"] == by_name["default"]["failed_per_minute"] == 0.2
    assert by_name["low"]["paused"] is True
    assert found["counts"]["dead"] == {"value": 1, "more": False}
    assert found["workers"] == {"processes": 0, "threads": 0, "busy": 0} | dict.fromkeys(
        ("tasks", "tasks_running", "loop_lag_seconds"), 0
    )
    assert sum(by_name["default"]["attempts_by_minute"]) == 2
    assert len(by_name["default"]["attempts_by_minute"]) == 30
    lines = jobs("stats").splitlines()
    assert lines[0].startswith("queue\tjobs\tlatency\trunning")
    assert lines[5].split("\t")[-1] == "paused"
    assert "jobs: 2 queued, 1 finished, 1 dead" in lines


def test_the_figures_on_a_terminal_have_units_colours_and_sparklines(worker):
    from rich.console import Console

    for _ in range(3):
        Fail.defer()
    worker.run()
    queues.pause("low")
    get_connection("default").hset(WriteNote.defer("old").key, "enqueued_at", iso(time.time() - 7_200))
    written, plain = StringIO(), StringIO()
    for encoding, stream in (("utf-8", written), ("ascii", plain)):
        console = Console(file=stream, force_terminal=True, color_system="standard", width=200)
        console.print(stats._drawn(stats.figures(), encoding))

    lines = {line.split()[0].partition("m")[2]: line for line in written.getvalue().splitlines()[1:]}
    assert "2 h" in lines["default"] and "█" in lines["default"]
    assert "\x1b[33mlow" in lines["low"] and "\x1b[31mdefault" in lines["default"]
    assert "█" not in plain.getvalue()


def test_a_sparkline_is_as_high_as_its_values():
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "
    assert sparkline([1, 1_000_000]) == "▁█"


@pytest.mark.processes
def test_the_figures_are_live_on_a_terminal_until_ctrl_c(valkey):
    add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    code, told = on_a_terminal("stats", "--interval", "0.05", interrupt_after=lambda told: told.count("critical") > 3)

    assert code == 0
    assert "Traceback" not in told


def test_the_figures_go_on_when_the_server_is_away(valkey, monkeypatch):
    from redis.exceptions import ConnectionError as RedisConnectionError
    from rich.console import Console

    looks = []

    def figures():
        looks.append(1)
        if len(looks) == 1:
            raise RedisConnectionError("refused")
        raise KeyboardInterrupt

    monkeypatch.setattr(stats, "figures", figures)
    written = StringIO()
    stats._watch(type("Output", (), {"console": lambda: Console(file=written, force_terminal=True)}), 0.01)

    assert "No figures: refused" in written.getvalue()
    assert len(looks) == 2


# --- when things are broken ------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("stats", "--json"),
        ("show", "x"),
        ("retry", "x"),
        ("pause", "low"),
        ("run", "sample.Fail", "--defer"),
    ],
)
def test_without_redis_it_says_so_in_a_sentence(words, tmp_path):
    said = pytest.raises(CommandError, match=r"^No answer from Redis.*none.sock.*Check that it runs")
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")), said as error:
        call_command("jobs", *words, stdout=StringIO(), stderr=StringIO())
    assert error.value.returncode == 3


def test_a_database_that_is_away_is_told_in_a_sentence(valkey, monkeypatch):
    def down(*args):
        raise OperationalError("connection refused")

    monkeypatch.setattr("jobs.cli.run.arguments.decode", down)
    assert refused("run", "sample.WriteNote", "--args", '["x"]') == "The database refuses: connection refused"


def test_a_queue_without_an_address_is_named():
    with override_settings(RQ_QUEUES=rq_queues("")):
        assert "Queue 'critical' has no Redis. Set REDIS_URL" in refused("list")


@pytest.mark.processes
def test_a_reader_that_has_read_enough_ends_it_quietly(valkey):
    WriteNote.defer_many([(str(number) * 50,) for number in range(3_000)])
    process = subprocess.Popen(
        [sys.executable, "manage.py", "jobs", "list", "--limit", "3000"],
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert b"\tqueued\tdefault\t" in process.stdout.readline()
        process.stdout.close()
        complained = process.stderr.read()
    assert process.returncode == 141
    assert complained == b""


def on_a_terminal(*words, answers=None, interrupt_after=None, timeout=60):
    """Run it in a process on a terminal of its own. Returns its exit code, and all that the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        environment = child_environment(COLUMNS="120", TERM="xterm")
        os.execve(sys.executable, [sys.executable, "manage.py", "jobs", *words], environment)  # noqa: S606
    told, answers, until = "", dict(answers or {}), time.monotonic() + timeout
    try:
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    told += os.read(terminal, 65_536).decode(errors="replace")
                except OSError:  # the end
                    break
            for prompt in [prompt for prompt in answers if prompt in told]:
                os.write(terminal, answers.pop(prompt).encode())
            if interrupt_after and interrupt_after(told):
                interrupt_after = None
                os.kill(pid, signal.SIGINT)
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0) if time.monotonic() < until else (os.kill(pid, signal.SIGKILL), os.wait()[1])
    return os.waitstatus_to_exitcode(status), told


# --- outside a terminal ------------------------------------------------------------------------------


def test_call_command_returns_to_its_caller():
    WriteNote.defer("x")
    call_command("jobs", "list", stdout=StringIO())
    call_command("jobs", "pause", "mailers", stdout=StringIO())
    assert queues.paused() == {"mailers"}

    with pytest.raises(CommandError) as refused:
        call_command("jobs", "show", "none", stdout=StringIO(), stderr=StringIO())
    assert refused.value.returncode == 1


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show"], ["show", "--json"]])
def test_an_output_in_ascii_bears_any_text(words):
    job = WriteNote.defer("Größe \N{SNOWMAN} \N{GRINNING FACE}")
    stdout = OutputWrapper(TextIOWrapper(BytesIO(), encoding="ascii"))

    call_command("jobs", *words, *([job.id] if words[0] == "show" else []), stdout=stdout)

    stdout.flush()
    said = stdout._out.buffer.getvalue().decode("ascii")
    assert job.id in said
    if "--json" in words:
        assert "Größe \N{SNOWMAN} \N{GRINNING FACE}" in str(json.loads(said))
    else:
        assert "\\u2603" in said


@pytest.mark.parametrize("timeout", ["2.5", "0.05"])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_job_that_cannot_begin_is_followed_until_the_timeout(is_paused, timeout, worker_record, monkeypatch):
    """Neither a worker of another queue serves it, nor one that has been silent for over half a minute."""
    worker_record("other", queues="low", seen=0)
    worker_record("dead", queues="default", seen=60)
    if is_paused:
        queues.pause("default")
    if timeout == "0.05":
        monkeypatch.setattr(cli_run, "SILENT", 0.05)  # no look falls between it and the time-out
    complained = StringIO()
    with pytest.raises(CommandError, match=rf"^Job \S+ is queued after {timeout} s\.$") as refused:
        call_command("jobs", *FOLLOWED, "--timeout", timeout, stdout=StringIO(), stderr=complained)

    assert refused.value.returncode == 1
    assert complained.getvalue() == (
        "The queue 'default' is paused. Resume it: python manage.py jobs resume default\n"
        if is_paused
        else "No worker serves the queue 'default'. Start one: python manage.py rqworker default\n"
    )


FOLLOWED = ("run", "sample.WriteNote", "--args", '["x"]', "--defer", "--follow")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*FOLLOWED[:-1], "--timeout", "2"), "--timeout needs --follow."),
        ((*FOLLOWED[:-2], "--timeout", "0"), "--timeout needs --defer."),
        ((*FOLLOWED, "--timeout", "0"), "--timeout 0 is impossible: it must be above 0 seconds."),
        ((*FOLLOWED, "--timeout", "nan"), "--timeout nan is impossible: it must be above 0 seconds."),
    ],
)
def test_an_impossible_timeout_is_refused_before_a_job_is_written(words, sentence, valkey):
    assert refused(*words) == sentence
    assert not list(valkey.client().scan_iter())


@pytest.fixture
def worker_record():
    """Writes a worker's record, as RQ keeps it; `seen` is the age of its last beat in seconds."""

    def write(name, *, queues, seen):
        client, key = get_connection("default"), f"rq:worker:{name}"
        client.sadd("rq:workers", key)
        client.hset(key, mapping={"queues": queues, "last_heartbeat": iso(time.time() - seen), "pid": 1})

    return write


@pytest.mark.parametrize("words", [(), ("jobs",), ("--exclude", "jobs"), ("--all", "jobs"), ("--all", "django_rq")])
def test_dumpdata_passes_over_models_without_a_table(words):
    said = StringIO()
    call_command("dumpdata", *words, stdout=said)
    assert "dashboard" not in {record["model"].partition(".")[2] for record in json.loads(said.getvalue())}
