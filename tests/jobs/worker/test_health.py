"""A worker's answers to probes and systemd: while it works, while its loops are stalled, while the server is away."""

import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from math import inf
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from jobs.worker import supervision
from jobs.worker.child import Child
from jobs.worker.children import Children
from jobs.worker.health import Health
from jobs.worker.probes import MOST, Probes
from jobs.worker.process import Process
from jobs.worker.scoreboard import ANOTHER, NO_MORE, Board
from jobs.worker.settings import WorkerSettings
from jobs.worker.stall import HOPELESS, STALLED, is_hopeless, stall
from jobs.worker.supervision import Supervision, notify
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import _free_port as free_port
from tests.jobs.worker.test_signals import children
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.processes import HoldLock

FAULTY = {"DJANGO_SETTINGS_MODULE": "tests.faulty"}


def ask(port, path="/healthz", method="GET"):
    """Return the status and the problems of a probe's response."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, json.loads(reply.read() or b"{}").get("problems", [])
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()).get("problems", [])


# --- the judgement -----------------------------------------------------------------------------


@pytest.fixture
def board():
    board = Board(2)
    board.turn()
    board.mind()
    return board


def run_a_job(board, thread):
    now = time.monotonic()
    board.start(thread, now, now + 3_600, b"job", b"job.1", b"default")


def test_loops_that_turn_or_have_not_begun_are_healthy(board):
    now = time.monotonic()

    assert stall(board, now + STALLED - 1, since=0.0, limit=STALLED) == ""
    assert stall(Board(2), now, since=now - STALLED + 1, limit=STALLED) == ""
    assert "has not looked for jobs for" in stall(Board(2), now, since=now - STALLED - 1, limit=STALLED)


def test_a_stalled_fetch_loop_is_detected_while_other_threads_work(board):
    run_a_job(board, 0)
    later = time.monotonic() + STALLED + 1
    board._turns[1] = later

    assert stall(board, later, since=0.0, limit=STALLED).startswith("has not looked for jobs for 2")


def test_no_fetch_is_expected_while_every_thread_works(board):
    run_a_job(board, 0)
    run_a_job(board, 1)
    later = time.monotonic() + STALLED + 1
    board._turns[1] = later

    assert stall(board, later, since=0.0, limit=STALLED) == ""


def test_a_job_that_holds_the_interpreters_lock_is_judged_by_its_time_out_alone(board):
    later = time.monotonic() + STALLED + 1

    assert stall(board, later, since=0.0, limit=STALLED)
    run_a_job(board, 0)
    assert stall(board, later, since=0.0, limit=STALLED) == ""


def test_a_stalled_main_thread_is_detected(board):
    later = time.monotonic() + STALLED + 1
    board._turns[0] = later

    assert stall(board, later, since=0.0, limit=STALLED).startswith("has not minded its threads for 2")


def breathe(board, times):
    for _ in range(times):
        board.breathe()


def test_a_stalled_main_thread_is_detected_beside_running_jobs_if_the_lock_is_free(board):
    run_a_job(board, 0)
    run_a_job(board, 1)
    later = time.monotonic() + HOPELESS + 1
    breathe(board, 1)  # the job has let the lock go a moment ago: the main thread's turn comes
    assert stall(board, later, since=0.0, limit=HOPELESS) == ""
    breathe(board, 50)
    assert stall(board, later, since=0.0, limit=HOPELESS).startswith("has not minded its threads for 6")
    assert is_hopeless(board)
    board.mind()
    assert not is_hopeless(board)


def test_no_fetch_is_expected_in_a_retiring_child(board):
    run_a_job(board, 0)
    board.retire(NO_MORE)
    later = time.monotonic() + STALLED + 1
    board._turns[1] = later
    assert stall(board, later, since=0.0, limit=STALLED) == ""


def test_a_stopping_child_is_never_stalled(board):
    board.leave()
    board.turn()

    assert stall(board, time.monotonic() + 1_000, since=0.0, limit=STALLED) == ""


@pytest.fixture
def process():
    process = Process("w1", 0, Board(2))
    process.board.turn()
    process.board.mind()
    return process


@pytest.fixture
def clock(monkeypatch):
    """Lets time pass for the parent: `clock(25)`; after `clock.stop()` no other time passes."""
    offset, real = [0.0], time.monotonic
    monkeypatch.setattr("jobs.worker.health.time.monotonic", lambda: real() + offset[0])

    def travel(seconds):
        offset[0] += seconds

    def stop():
        now = real()
        monkeypatch.setattr("jobs.worker.health.time.monotonic", lambda: now + offset[0])

    travel.stop = stop
    return travel


def test_a_worker_that_waits_for_redis_is_alive_and_not_ready(process, clock):
    health = Health([process], 1)
    health.answered()
    health.beaten()
    assert health.hindrances() == []
    health.unanswered()
    clock(1_000)

    assert health.problems() == []
    assert health.hindrances() == ["Redis does not answer, or refuses"]


def test_loops_have_their_full_time_again_after_an_outage_or_a_suspension(process, clock):
    health = Health([process], 1)
    health.answered()
    clock(1_000)
    health.answered()
    assert health.answering_since > process.started_at + 900
    assert health.problems() == []
    for _ in range(3):
        clock(8)
        health.answered()

    (problem,) = health.problems()
    assert re.fullmatch(r"w1 has not looked for jobs for 2\d s", problem)


def test_a_child_stopped_by_a_signal_is_always_a_problem(process, clock):
    health = Health([process], 1)
    process.stopped_at = time.monotonic()
    clock(STALLED - 1)
    assert health.problems() == []
    clock(2)

    (problem,) = health.problems()
    assert re.fullmatch(r"w1 has been stopped by a signal for 2\d s", problem)


def test_a_retiring_child_does_not_count_as_taking_jobs(process, clock):
    health = Health([process], 1)
    health.answered()
    process.board.retire(ANOTHER)

    assert health.problems() == []
    assert health.hindrances() == ["0 of 1 processes take jobs"]


def test_a_worker_that_stops_cannot_beat_or_lacks_a_child_is_not_ready(process, clock):
    health = Health([process], 2)
    health.answered()
    health.beaten()
    assert health.hindrances() == ["1 of 2 processes take jobs"]
    health.stopping = True
    clock(STALLED + 1)

    assert health.hindrances() == ["it is stopping"]
    health.stopping = False
    health.answered()
    beat, *others = health.hindrances()
    assert re.fullmatch(r"no beat could be written for 2\d s", beat)
    assert others == ["1 of 2 processes take jobs"]


def test_the_main_thread_shows_each_turn_until_its_process_leaves(valkey, monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = Child(WorkerSettings(queues={"default": None}, concurrency=1), "w1", Board(1), theirs, blocks=True)
        monkeypatch.setattr(child._threads[0], "is_alive", lambda: True)
        child._mind()
        turn = child._board.minded()
        child._mind()
        assert 0.0 < turn < child._board.minded() < inf
        child._stop()
        child._mind()
        assert child._board.minded() == inf


# --- the answers ---------------------------------------------------------------------------------


@pytest.fixture
def probes():
    problems = []
    port = free_port()
    probes = Probes(port, {"/healthz": lambda: problems})
    probes.port, probes.problems = port, problems
    yield probes
    probes.close()


def say(probes, text):
    caller = socket.create_connection(("127.0.0.1", probes.port))
    caller.settimeout(5)
    caller.sendall(text)
    return caller


def hear(probes, caller):
    eventually(lambda: probes.serve() or len(probes.files()) == 1)
    with caller:
        return b"".join(iter(lambda: caller.recv(4_096), b""))


def test_a_probe_is_answered_however_slowly_it_asks(probes):
    caller = say(probes, b"GET /healthz HT")
    probes.serve()
    eventually(lambda: probes.serve() or len(probes.files()) == 2)
    caller.sendall(b"TP/1.1\r\n\r\n")
    reply = hear(probes, caller)

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.endswith(b'\r\n\r\n{"status":"ok"}')


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /healthz?x=1 HTTP/1.1\r\n\r\n", b"503"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"\x00" * 5_000, b"405"),
    ],
)
def test_other_requests_have_other_answers(asked, status, probes):
    probes.problems.append("w1 stands still")
    reply = hear(probes, say(probes, asked))

    assert reply.split(b" ")[1] == status
    assert (b'"problems":["w1 stands still"]' in reply) == (status == b"503")


def test_a_head_request_has_no_body(probes):
    reply = hear(probes, say(probes, b"HEAD /healthz HTTP/1.1\r\n\r\n"))

    assert reply.endswith(b"\r\n\r\n")


def test_connections_without_a_request_are_closed(probes, monkeypatch):
    callers = []
    for _ in range(MOST + 5):
        callers.append(say(probes, b"GET "))
        probes.serve()
    eventually(lambda: probes.serve() or len(probes.files()) == MOST + 1)
    monkeypatch.setattr("jobs.worker.probes.PATIENCE", 0.0)
    eventually(lambda: probes.serve() or len(probes.files()) == 1)
    for caller in callers:
        caller.close()


# --- sd_notify -----------------------------------------------------------------------------------


@pytest.fixture(params=["path", "abstract"])
def notices(request, tmp_path, monkeypatch):
    """A real datagram socket in systemd's place. A call returns the notices received since the last one."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0jobs-{os.getpid()}-{time.monotonic_ns()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(name)
    listener.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))

    def come():
        found = []
        try:
            while True:
                found.append(listener.recv(4_096).decode())
        except BlockingIOError:
            return found

    yield come
    listener.close()


def test_readiness_stopping_and_watchdog_notices_are_sent(notices, process, monkeypatch, clock):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    clock.stop()
    health = Health([process], 1)
    supervised = Supervision(health, None)
    supervised.serve()
    assert notices() == ["WATCHDOG=1"]
    health.answered()
    supervised.serve()
    supervised.serve()
    assert notices() == ["READY=1"]
    supervised.report()
    assert notices() == ["STATUS=0 of 2 threads busy"]
    clock(4.9)
    supervised.serve()
    assert notices() == []
    clock(0.2)
    supervised.serve()
    assert notices() == ["WATCHDOG=1"]
    supervised.stop()
    assert notices() == ["STOPPING=1"]


def test_no_watchdog_notice_is_sent_while_a_child_is_stalled(notices, process, monkeypatch, clock):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    process.stopped_at = time.monotonic()
    supervised = Supervision(Health([process], 1), None)
    clock(STALLED + 1)
    supervised.serve()

    assert notices() == []


def test_a_worker_that_waits_for_redis_at_its_start_asks_for_more_time(notices, process):
    Supervision(Health([process], 1), None).wait(0.01)

    assert notices()[0] == "STATUS=waiting for Redis\nEXTEND_TIMEOUT_USEC=30000000"


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("4000000", "", 2.0), ("4000000", "1", inf), ("", "", inf), ("0", "", inf), ("x", "", inf)],
)
def test_the_watchdog_is_for_the_process_that_it_names(usec, pid, seconds, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert supervision._watchdog() == seconds
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert supervision._watchdog() == (2.0 if usec == "4000000" else inf)


def test_notices_without_a_listener_are_dropped(monkeypatch, tmp_path):
    for address in ("", "relative", str(tmp_path / "nobody")):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")


# --- real workers --------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
class TestWorker:
    def test_probes_are_answered_from_the_start_to_the_end(self, worker_process, tmp_path):
        begun, release = tmp_path / "begun", tmp_path / "release"
        Patient.defer(str(begun), str(release))
        port = free_port()
        worker = worker_process("default", processes=2, health_port=port)
        eventually(lambda: ask(port, "/readyz") == (200, []))
        eventually(begun.exists)
        assert ask(port) == (200, [])
        worker.process.terminate()
        eventually(lambda: ask(port, "/readyz")[1] == ["it is stopping"])
        assert ask(port) == (200, [])
        for child in children(worker.pid):  # the port is the parent's alone: it is free when that is gone
            assert not listens(child, port)
        release.touch()
        assert worker.wait() == 0

    def test_a_stalled_fetch_loop_is_unhealthy_until_its_process_is_replaced(self, worker_process, tmp_path):
        stopped, port = tmp_path / "stopped", free_port()
        env = FAULTY | {"STALLED_FETCH": str(stopped), "STALLED": "2.5", "HOPELESS": "6", "PATIENCE": "0.2"}
        worker = worker_process("default", concurrency=2, health_port=port, env=env | {"EVERY": "0.2"})
        eventually(lambda: ask(port, "/readyz") == (200, []))
        (child,) = children(worker.pid)
        stopped.touch()
        status, problems = eventually(lambda: (answer := ask(port))[0] == 503 and answer)
        assert status == 503
        assert re.fullmatch(r"\S+ has not looked for jobs for \d+ s", problems[0])
        assert ask(port, "/readyz") == (503, problems)
        stopped.unlink()
        eventually(lambda: ask(port) == (200, []))

        assert re.search(r"has not looked for jobs for \d+ s; killing it", worker.output)
        assert children(worker.pid) != [child]
        after = WriteNote.defer("after")
        eventually(lambda: after.state == "finished")

    def test_a_process_with_a_stalled_main_thread_is_killed_and_no_job_is_suspect(self, worker_process, tmp_path):
        begun, release, stopped = (tmp_path / name for name in ("begun", "release", "stopped"))
        job = Patient.defer(str(begun), str(release))
        env = FAULTY | {"STALLED_MAIN": str(stopped), "HOPELESS": "4", "EVERY": "0.2"}
        worker = worker_process("default", concurrency=1, env=env)
        eventually(begun.exists)
        (child,) = children(worker.pid)
        begun.unlink()
        stopped.touch()
        eventually(begun.exists)
        release.touch()
        eventually(lambda: job.state == "finished")

        assert re.search(r"has not minded its threads for \d+ s; killing it", worker.output)
        assert children(worker.pid) != [child]
        assert job.connection.hmget(job.key, "interruptions", "survived") == [b"1", b"1"]

    def test_a_job_that_holds_the_interpreters_lock_within_its_time_is_left_alone(self, worker_process, tmp_path):
        job = HoldLock.defer(str(tmp_path / "started"), 6)
        worker = worker_process("default", concurrency=2, env=FAULTY | {"HOPELESS": "2", "EVERY": "0.2"})
        eventually(lambda: job.state == "finished")
        assert "killing it" not in worker.output

    def test_a_stopped_process_is_unhealthy_until_it_is_replaced(self, worker_process):
        port = free_port()
        env = FAULTY | {"STALLED": "2.5", "UNSEEN": "5", "EVERY": "0.2"}
        worker = worker_process("default", health_port=port, env=env)
        eventually(lambda: ask(port, "/readyz") == (200, []))
        (child,) = children(worker.pid)
        os.kill(child, signal.SIGSTOP)
        _, problems = eventually(lambda: (answer := ask(port))[0] == 503 and answer)
        assert "has been stopped by a signal for" in problems[0]
        eventually(lambda: ask(port) == (200, []))
        assert children(worker.pid) != [child]

    def test_in_an_outage_a_worker_is_alive_and_not_ready(self, worker_process, valkey):
        port = free_port()
        env = FAULTY | {"STALLED": "2.5", "PATIENCE": "0.2", "EVERY": "0.2"}
        worker = worker_process("default", health_port=port, env=env)
        eventually(lambda: ask(port, "/readyz") == (200, []))
        valkey.kill()
        eventually(lambda: ask(port, "/readyz")[1] == ["Redis does not answer, or refuses"])
        until = time.monotonic() + 3.5  # for longer than a loop may stand still
        while time.monotonic() < until:
            assert ask(port) == (200, [])
        valkey.start()
        eventually(lambda: ask(port, "/readyz") == (200, []))
        assert worker.process.poll() is None

    def test_systemd_is_notified(self, worker_process, notices):
        worker = worker_process("default", env={"WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""})
        sent = []
        eventually(lambda: sent.extend(notices()) or ("READY=1" in sent and sent.count("WATCHDOG=1") > 2))
        assert worker.stop() == 0
        sent += notices()
        assert sent.count("READY=1") == sent.count("STOPPING=1") == 1
        assert any(re.match(r"STATUS=.*0 of \d+ threads busy", each) for each in sent)


def listens(pid, port):
    """Whether that process has the port open, by the kernel's tables."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    wanted = {words[9] for words in lines if words[1].endswith(f":{port:04X}") and words[3] == "0A"}
    assert wanted
    try:
        opened = {os.readlink(f"/proc/{pid}/fd/{file}") for file in os.listdir(f"/proc/{pid}/fd")}
    except FileNotFoundError:  # it has ended meanwhile
        return False
    return bool({f"socket:[{inode}]" for inode in wanted} & opened)


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"--health-port {port} cannot be used: .*in use"):
            call_command("rqworker", "default", health_port=port)
    for port in (0, 65_536):
        with pytest.raises(CommandError, match=f"--health-port {port} is impossible"):
            call_command("rqworker", "default", health_port=port)


@pytest.mark.parametrize("running", [True, False])
def test_a_child_with_a_stalled_fetch_is_killed_if_it_runs_no_job(running, process, monkeypatch):
    minding = Children(WorkerSettings(queues={"default": None}), bool, bool, bool, bool)
    minding._alive.append(process)
    killed = []
    monkeypatch.setattr("jobs.worker.process.os.kill", lambda *args: killed.append(args))
    if running:
        run_a_job(process.board, 0)
    process.board._turns[0] -= HOPELESS + 1
    process.started_at -= HOPELESS + 1
    minding.judge(since=inf)  # the server is away
    assert killed == []
    minding.judge(since=0.0)

    assert killed == ([] if running else [(process.pid, signal.SIGKILL)])
