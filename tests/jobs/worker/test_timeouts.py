"""Time-outs, and commands that do not let themselves be stopped. A worker goes on whatever a command does."""

import threading

import pytest

from jobs.connections import get_connection
from jobs.interrupt import Interruptible, TimedOut
from tests.jobs.worker import eventually
from tests.sample.commands.long import Deaf, Exit, Interrupted, SleepAsync, Spin
from tests.sample.commands.notes import WriteNote

processes = pytest.mark.processes
pytestmark = pytest.mark.django_db(transaction=True)


@processes
@pytest.mark.parametrize("command", [Spin, SleepAsync])
def test_an_attempt_ends_at_its_timeout_and_the_next_job_runs(command, worker_process):
    job, after = command.defer(), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert (job.state, job.reason) == ("dead", "TimedOut: The attempt took longer than its 1 seconds.")
    assert "longer than its 1 seconds" in job.latest_result().exc_string
    assert after.state == "finished"


@processes
@pytest.mark.parametrize("command", [Exit, Interrupted])
def test_a_command_cannot_end_the_worker(command, worker_process):
    job, after = command.defer(), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert job.state == "dead"
    assert after.state == "finished"


@processes
def test_a_thread_that_does_not_come_back_costs_its_process_but_no_other_job(worker_process):
    job = Deaf.defer()
    worker = worker_process(
        "default", concurrency=2, env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "COMEBACK": "1", "GRACE": "5"}
    )
    eventually(lambda: job.state == "dead")
    after = WriteNote.defer("after")
    eventually(lambda: after.state == "finished")

    assert "longer than its 1 seconds" in job.reason
    assert "this process takes no more jobs" in worker.output
    assert get_connection("default").zcard("rq:wip:default") == 0


def test_a_tampered_timeout_is_the_default(worker_process):
    job = WriteNote.defer("x")
    get_connection("default").hset(job.key, mapping={"timeout": "soon", "result_ttl": "long"})

    assert worker_process("default", burst=True).wait() == 0
    assert job.state == "finished"


def test_an_interrupt_comes_inside_the_call_or_not_at_all():
    thread, claim, inside, go = Interruptible(), object(), threading.Event(), threading.Event()
    caught = []

    def work():
        def call():
            inside.set()
            while not go.is_set():
                pass
            while True:
                pass

        try:
            thread.run(claim, call)
        except TimedOut as error:
            caught.append(error)
        caught.append(thread.run(claim, lambda: "undisturbed"))

    worker = threading.Thread(target=work)
    worker.start()
    inside.wait()
    assert not thread.interrupt(object(), TimedOut)  # another claim's
    assert thread.interrupt(claim, TimedOut)
    assert not thread.interrupt(claim, TimedOut)  # once is enough
    go.set()
    worker.join(10)

    assert isinstance(caught[0], TimedOut)
    assert caught[1] == "undisturbed"
    assert not thread.interrupt(claim, TimedOut)  # over


def test_one_that_was_sent_too_late_never_arrives():
    thread, claim = Interruptible(), object()
    for _ in range(200):
        thread.arm(claim)
        sender = threading.Thread(target=thread.interrupt, args=(claim, TimedOut))
        try:
            sender.start()
            thread.disarm()
        except TimedOut:
            thread.disarm()
        sender.join()
        assert sum(range(100)) == 4_950  # an interrupt that were still to come would come here
