"""Steps of async commands on an event loop."""

import pytest

from jobs import Workflow
from tests.jobs.worker import eventually
from tests.sample.commands.steps_async import AddAwait, CountAwait, LoopUntil, StepsOnLoop
from tests.sample.models import Note


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
class TestInAWorker:
    def test_steps_and_loops_run_on_the_loop_and_in_lent_threads_and_extend_the_time_limit(self, worker_process):
        Note.objects.create(text="a"), Note.objects.create(text="b")
        job = StepsOnLoop.defer()
        assert worker_process("default", async_concurrency=2, burst=True).wait() == 0

        assert job.state == "finished"
        assert job.return_value(refresh=True) == [1, 2, "a", "b"]

    def test_a_stop_ends_a_task_at_a_checkpoint(self, worker_process, tmp_path):
        path = tmp_path / "done"
        job = LoopUntil.defer(str(path))
        worker = worker_process("default", async_concurrency=2)
        eventually((tmp_path / "done-3").exists)

        assert worker.stop() == 0
        assert job.state == "queued"
        assert job.history[-1].name == "resumed"

        path.touch()
        worker_process("default", async_concurrency=2, burst=True).wait()
        assert job.state == "finished"

    def test_steps_of_a_flow_take_results_and_end_with_those_before_them(self, worker_process):
        with Workflow("good") as good:
            added = good.add(AddAwait, good.add(CountAwait, 4).result)
        with Workflow("bad") as bad:
            cancelled = bad.add(AddAwait, bad.add(CountAwait, -1).result, on_failure="cancel")
        worker_process("default", async_concurrency=5, burst=True).wait()

        assert added.job.return_value(refresh=True) == "6 in good"
        assert cancelled.job.state == "discarded"
        assert good.has_succeeded
        assert bad.has_ended
