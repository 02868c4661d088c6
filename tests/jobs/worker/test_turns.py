"""Jobs of a queue that take turns by a key."""

from collections import Counter

import pytest
from django.utils import timezone

from jobs import control, queues
from jobs.attempts.outcomes import Finished, GivenBack, Retried
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.errors import CommandDefinitionError
from jobs.mandate import Mandate
from jobs.retries import Progress
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from jobs.worker.release import release
from tests.jobs.worker.test_limits import claim_all, finish, ids, kept
from tests.sample.commands.limited import OneTurn, Turn, WeightedTurn
from tests.sample.commands.notes import WriteNote


def drain(fetch, outcome=None):
    """Run all jobs one after the other, and return their ids."""
    done = []
    while claims := claim_all(fetch):
        done += ids(claims)
        finish(fetch, *claims, outcome=Finished(None, 0))
    return done


def test_tenants_take_turns_and_each_keeps_its_order(new_fetch, places):
    a = Turn.defer_many([("a", number) for number in range(4)])
    b = Turn.defer_many([("b", number) for number in range(2)])
    assert [job.state for job in a] == ["queued", "limited", "limited", "limited"]
    assert places()[a[1].id] == ["deferred:default"]

    done = drain(new_fetch("w1", threads=1))

    assert done == [job.id for job in (a[0], b[0], a[1], b[1], a[2], a[3])]
    assert kept() == []


def test_a_lone_tenant_gets_every_thread(new_fetch):
    jobs = Turn.defer_many([("a", number) for number in range(5)])

    assert ids(claim_all(new_fetch("w1", threads=4))) == [job.id for job in jobs[:4]]


def test_who_comes_last_waits_one_turn_of_the_others(new_fetch):
    Turn.defer_many([("a", number) for number in range(3_000)])
    Turn.defer_many([("b", number) for number in range(10)])
    fetch = new_fetch("w1", threads=1)
    claim_all(fetch)

    late = Turn.defer("c")
    assert get_connection("default").llen(keys.queue("default")) == 3  # b, a and c: the ring

    for _ in range(2):
        assert late.id not in ids(claim_all_after(fetch))
    assert ids(claim_all_after(fetch)) == [late.id]


def claim_all_after(fetch):
    """End what runs, and claim."""
    finish(fetch, *fetch.held.values())
    return claim_all(fetch)


@pytest.mark.parametrize("threads", [1, 3, 6, 10])
def test_weights(threads, new_fetch):
    jobs = WeightedTurn.defer_many([(tenant, number) for tenant in "ab" for number in range(300)])
    tenant = {job.id: job.command_args[0] for job in jobs}

    done = drain(new_fetch("w1", threads=threads))

    turns = "".join(tenant[job_id] for job_id in done[:400])
    assert {Counter(turns[at : at + 4])["a"] for at in range(0, 400, 4)} == {3}
    assert sorted(done) == sorted(tenant)
    assert kept() == []


def test_jobs_without_a_share_stay_where_they_are(new_fetch):
    first = WriteNote.defer("x")
    a = Turn.defer_many([("a", 1), ("a", 2)])
    last = WriteNote.defer("x")

    assert drain(new_fetch("w1", threads=1)) == [first.id, a[0].id, last.id, a[1].id]


@pytest.mark.parametrize("how", ["cancel", "delete", "move", "clear"])
def test_who_leaves_otherwise_makes_room_for_the_next(how, new_fetch):
    first, second, third = Turn.defer_many([("a", number) for number in range(3)])
    if how == "move":
        control.move(first, "low")
    elif how == "clear":
        assert sum(control.clear("default", timezone.now())) == 3
    else:
        getattr(control, how)(first)
        assert (second.state, third.state) == ("queued", "limited")

    done = drain(new_fetch("w1", threads=1, queues=("default",)))

    assert done == ([] if how == "clear" else [second.id, third.id])
    drain(new_fetch("w2", threads=1))
    assert kept() == []


def test_retries_promoted_and_released_jobs_take_their_turn(new_fetch, worker):
    a = Turn.defer_many([("a", number) for number in range(3)])
    b = Turn.defer_many([("b", number) for number in range(3)])
    late = Turn.defer("a", 7, wait=60)
    after = Turn.defer("b", 8, prereq_jobs=[a[0]])
    fetch = new_fetch("w1", threads=1)
    (claim,) = claim_all(fetch)
    finish(fetch, claim, outcome=Retried(0, "no", "", Progress(attempts=1)))

    done = []
    while claims := claim_all(fetch):
        done += ids(claims)
        finish(fetch, *claims, outcome=Finished(None, 500))
        worker.hurry().promotion.run(["default"])
        for member in fetch._step(claims=False):
            release(get_connection("default"), member)
    assert done[:4] == [b[0].id, a[1].id, b[1].id, a[2].id]
    assert sorted(done) == sorted(job.id for job in (*a, *b, late, after))
    assert kept() == []


def test_a_job_given_back_keeps_its_turn(new_fetch):
    first, second = Turn.defer_many([("a", 1), ("a", 2)])
    fetch = new_fetch("w1", threads=1)
    (claim,) = claim_all(fetch)
    finish(fetch, claim, outcome=GivenBack())

    assert drain(fetch) == [first.id, second.id]


def test_a_share_and_a_limit_together(new_fetch):
    a = OneTurn.defer_many([("a",)] * 3)
    b = OneTurn.defer_many([("b",)] * 2)
    other = WriteNote.defer("x")
    fetch = new_fetch("w1", threads=2)

    assert ids(claim_all(fetch)) == [a[0].id, other.id]
    finish(fetch, *fetch.held.values())
    done = drain(fetch)
    assert sorted(done) == sorted(job.id for job in (*a[1:], *b))
    assert done[0] == b[0].id
    assert kept() == []


def test_a_copy_takes_its_turn_and_a_setting_shares_all(new_fetch, settings):
    settings.JOBS = settings.JOBS | {"SHARE": "text"}
    a = [WriteNote.defer("a"), WriteNote.defer("a"), WriteNote.defer("b")]
    copied = queues.copy(a[0])

    assert drain(new_fetch("w1", threads=1)) == [a[0].id, a[2].id, a[1].id, copied.id]


def test_what_is_no_share_is_refused(own_commands):
    with pytest.raises(CommandDefinitionError, match="share = 'nobody' is impossible"):
        type("Wrong", (Mandate,), {"share": "nobody", "call": lambda self: None, "__module__": __name__})


def test_a_tenant_whose_turn_rqs_tools_delete_goes_on(new_fetch):
    jobs = Turn.defer_many([("a", number) for number in range(3)])
    client = get_connection("default")
    client.delete(jobs[0].key)  # no script of ours runs: its id is left in the list, and nothing says whose turn it was
    fetch = new_fetch("w1", threads=1)
    assert claim_all(fetch) == []

    wire = Wire("default")
    Promotion(wire).run(["default"])
    wire.close()

    assert drain(fetch) == [job.id for job in jobs[1:]]
    assert kept() == []
