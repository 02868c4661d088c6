"""Flows on a server: steps wait for each other, and take each other's results."""

import pytest

from jobs import Workflow, control
from jobs.batches import record, rerun
from jobs.broker import keys
from jobs.errors import FlowError, SerializationError
from jobs.job import JobState
from jobs.worker.batches import BatchSweep
from jobs.worker.connection import Wire
from jobs.worker.release import release
from tests.jobs.batches.test_batch import notes, run
from tests.sample.commands.batches import Say
from tests.sample.commands.flows import Add, Fetch, Inner, Many, Never, Shout, Tell
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def test_steps_take_the_results_of_those_before_them(worker):
    with Workflow("f", on_success=Say.prepare("success")) as flow:
        fetched = flow.add(Fetch, 4)
        added = flow.add(Add, fetched.result)
        flow.add(Tell, {"sum": [added.result]}, more=fetched.result)
    assert added.job.state == JobState.WAITING
    run(worker)

    assert notes() == ["success f", "{'sum': [6]} [0, 1, 2, 3]"]
    assert flow.has_succeeded and flow.total == 3 and list(flow.graph().values())[1] == [fetched.id]


def test_after_is_an_edge_without_a_result(worker):
    with Workflow("f") as flow:
        told = flow.add(Tell, "first")
        flow.add(Tell, "second", after=[told])
    worker.step()
    assert notes() == ["first"]
    run(worker)
    assert notes() == ["first", "second"] and flow.has_succeeded


@pytest.mark.parametrize(
    ("on_failure", "state", "said"),
    [("block", JobState.BLOCKED, []), ("run", JobState.FINISHED, ["None"]), ("cancel", JobState.DISCARDED, [])],
)
def test_a_step_blocks_runs_or_is_cancelled_if_one_before_it_dies(on_failure, state, said, worker):
    Note.objects.create(text="bad")
    with Workflow("f", on_dead=Say.prepare("dead")) as flow:
        fetched = flow.add(Fetch, 4)
        told = flow.add(Tell, fetched.result, on_failure=on_failure)
    run(worker)
    assert told.job.state == state and notes() == sorted([*said, "bad", "dead f"])
    assert flow.has_ended == (on_failure != "block")

    Note.objects.all().delete()
    assert flow.retry_from(fetched) == (1 if on_failure == "block" else 2)
    run(worker)
    assert notes() == ["[0, 1, 2, 3]"] and flow.has_succeeded


def test_a_flow_is_run_again_from_a_step_that_has_finished(worker):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 4)
        added = flow.add(Add, fetched.result)
        flow.add(Tell, added.result)
    run(worker)
    assert flow.retry_from(added) == 2
    assert [job.state for job in (fetched.job, added.job)] == ["finished", "queued"]
    run(worker)
    assert notes() == ["6", "6"] and flow.has_ended
    with pytest.raises(FlowError, match="'nobody' is no step of flow"):
        flow.retry_from("nobody")


@pytest.mark.parametrize(
    ("command", "args", "said"), [(Many, (["a", "b"],), ["a", "b", "then"]), (Inner, (), ["6", "then"])]
)
def test_what_a_step_opens_is_waited_for(command, args, said, worker):
    with Workflow("f") as flow:
        opened = flow.add(command, *args)
        flow.add(Tell, "then", after=[opened])
    while worker.step():
        run_released(worker)
        assert "then" not in notes() or notes() == said
    assert notes() == said and flow.has_succeeded


def run_released(worker):
    for member in worker.client.smembers(keys.RELEASING):
        release(worker.client, member)


def test_while_a_unique_flow_has_not_ended_there_is_no_other(worker):
    with Workflow("f", unique="learner:7") as flow:
        flow.add(Tell, "one")
    with Workflow("f", unique="learner:7") as other:
        other.add(Tell, "two")
    assert other.duplicate and other.id == flow.id and not flow.duplicate
    run(worker)
    with Workflow("f", unique="learner:7") as later:
        later.add(Tell, "three")
    run(worker)
    assert notes() == ["one", "three"] and not later.duplicate


def test_a_worker_enqueues_the_steps_that_are_to_run_again_if_the_process_dies(worker, monkeypatch):
    with Workflow("f", on_complete=Say.prepare("complete")) as flow:
        fetched = flow.add(Fetch, 4)
        told = flow.add(Tell, flow.add(Add, fetched.result).result)
    run(worker)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rerun.control, "run_again", die)
        flow.retry_from(fetched)
    assert not flow.has_ended and worker.client.hlen(keys.batch_again(flow.id)) == 3
    assert {worker.client.ttl(key) for key in record.keys_of(flow.id)} <= {-1, -2}
    run(worker)
    assert not flow.has_ended and told.job.state == JobState.FINISHED

    sweep = BatchSweep(Wire("default"), worker.client)
    sweep.turn()
    sweep._wire.close()
    assert [step.job.state for step in flow.steps] == ["queued", "waiting", "waiting"]
    run(worker)
    assert flow.has_ended and notes() == ["6", "6", "complete f"]
    assert rerun.carry_on(worker.client, flow.id) == 0 and not worker.client.exists(keys.batch_again(flow.id))


def test_a_step_runs_again_once_whoever_enqueues_it(worker, monkeypatch):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 4)
        flow.add(Tell, fetched.result)
    run(worker)
    real = rerun.control.run_again

    def by_two(job, flow_id):
        real(job, flow_id)
        run(worker)  # it has ended again by the time that the other one comes to it
        return real(job, flow_id)

    monkeypatch.setattr(rerun.control, "run_again", by_two)
    assert flow.retry_from(fetched) == 0
    assert notes() == ["[0, 1, 2, 3]"] * 2 and flow.has_ended


def test_a_step_that_runs_again_waits_for_a_step_before_it_that_does_not(worker):
    with Workflow("f") as flow:
        one, two = flow.add(Fetch, 4), flow.add(Fetch, 2)
        told = flow.add(Tell, one.result, more=two.result)
    flow.cancel()
    assert flow.retry_from(one) == 2
    run(worker)
    assert told.job.state == JobState.BLOCKED and notes() == []
    flow.retry_from(two)
    run(worker)
    assert notes() == ["[0, 1, 2, 3] [0, 1]"] and flow.has_ended


def test_steps_that_cannot_be_are_refused_at_once(worker):
    with Workflow("f") as flow, Workflow("g") as other:
        fetched = other.add(Fetch, 4)
        with pytest.raises(FlowError, match="is no step of flow"):
            flow.add(Add, fetched.result)
        with pytest.raises(FlowError, match="is no step of flow"):
            flow.add(Tell, "x", after=[fetched])
        with pytest.raises(FlowError, match="Tell returns nothing"):
            other.add(Tell, other.add(Tell, "x").result)
        with pytest.raises(FlowError, match="Never returns nothing"):
            other.add(Never).result  # noqa: B018
        with pytest.raises(TypeError, match="is annotated str, but the step before returns int"):
            other.add(Shout, other.add(Add, fetched.result).result)
        with pytest.raises(ValueError, match="on_failure='stop' is impossible"):
            other.add(Fetch, 4, on_failure="stop")
    with pytest.raises(FlowError, match="is not open"):
        flow.add(Fetch, 4)
    with pytest.raises(SerializationError, match=r"only `flow.add` can pass it"):
        Tell.defer(fetched.result)


def test_a_result_that_is_not_kept_is_named(worker):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 4)
        added = flow.add(Add, fetched.result)
    worker.step()
    run_released(worker)
    worker.client.delete(keys.results(fetched.id))
    run(worker)
    assert added.job.state == JobState.DEAD
    assert (
        added.job.reason == f"PayloadError: The result of job {fetched.id} is not kept: it was deleted, or has expired."
    )
    assert flow.retry_from(fetched) >= 1
    run(worker)
    assert flow.has_succeeded


def test_a_flow_is_cancelled(worker):
    with Workflow("f", on_complete=Say.prepare("complete")) as flow:
        flow.add(Tell, flow.add(Fetch, 4).result)
    assert flow.cancel() == 2
    run(worker)
    assert notes() == ["complete f"]


def test_a_thousand_steps(worker):
    with Workflow("f") as flow:
        first = [flow.add(Fetch, 1) for _ in range(300)]
        flow.add(Tell, [step.result for step in first])
    run(worker)
    assert flow.has_succeeded and len(notes()) == 1


def test_results_are_kept_as_long_as_the_flow_and_a_day_more(worker):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 4)
        told = flow.add(Tell, fetched.result)
    worker.step()
    run_released(worker)
    sweep = BatchSweep(Wire("default"), worker.client)
    worker.client.expire(keys.results(fetched.id), 100)
    sweep.turn()
    assert worker.client.ttl(keys.results(fetched.id)) <= 100  # renewed once in a while
    worker.client.hset(keys.batch(flow.id), "created", 1)
    sweep.turn()
    assert worker.client.ttl(keys.results(fetched.id)) > 300 * 86_400
    run(worker)
    sweep.turn()

    assert 86_000 < worker.client.ttl(keys.results(fetched.id)) <= 86_400
    assert 86_000 < worker.client.ttl(keys.job(told.id)) <= 86_400
    flow.retry_from(told)
    sweep.turn()
    sweep._wire.close()
    assert worker.client.ttl(keys.results(fetched.id)) > 300 * 86_400  # a step takes it again


def test_results_of_a_flow_that_has_failed_are_kept_as_long_as_it_can_be_retried(worker):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 4)
        flow.add(Tell, flow.add(Shout, "x", after=[fetched]).result, on_failure="run")
    worker.step()
    run_released(worker)
    control.cancel(flow.steps[1].job)
    run(worker)
    worker.client.expire(keys.batch(flow.id), 180 * 86_400)  # as with a dead step
    sweep = BatchSweep(Wire("default"), worker.client)
    sweep.turn()
    sweep._wire.close()

    assert 179 * 86_400 < worker.client.ttl(keys.results(fetched.id)) <= 180 * 86_400
