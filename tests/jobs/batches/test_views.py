"""Batches on the pages, as JSON, in the terminal, in the metrics and in the doctor's findings."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from jobs import Batch, Workflow, doctor
from jobs.batches import record
from jobs.broker import keys
from jobs.dashboard import prometheus
from tests.jobs.batches.test_batch import run
from tests.sample.commands.batches import Part, Say
from tests.sample.commands.flows import Add, Fetch, Tell
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def batch(worker):
    Note.objects.create(text="bad")
    with Batch("import", on_success=Say.prepare("success"), tags=["course"]) as batch:
        Part.defer("one")
        Part.defer("two", "bad")
        with Batch("child"):
            Part.defer("three")
    worker.step()
    worker.step()
    return batch


def show(*words):
    output = StringIO()
    call_command("jobs", *words, stdout=output)
    return output.getvalue()


def test_the_list_and_the_page_show_state_members_errors_and_children(batch, admin_client, worker):
    listed = admin_client.get(reverse("admin:jobs_batches"))
    assert [(row.name, row.state, row.ended, row.total) for row, _ in listed.context["lines"]] == [
        ("child", "running", 0, 1),
        ("import", "running", 2, 3),
    ]
    page = admin_client.get(reverse("admin:jobs_batch", args=[batch.id]))
    text = page.content.decode()
    assert "ValueError: bad is there" in text and "course" in text and ">child</a>" in text
    assert page.context["bar"].count("<rect") == 3 and "1 finished" in page.context["bar"]
    assert [event for event, *_ in page.context["callbacks"]] == ["success"]
    assert admin_client.get(reverse("admin:jobs_batch", args=["nobody"])).status_code == 404


def test_a_job_leads_to_its_batch_and_a_callback_to_the_one_it_is_for(batch, admin_client):
    for job_id in (next(iter(batch.jobs("dead"))).id, record.callback_id(batch.id, "success")):
        page = admin_client.get(reverse("admin:jobs_job", args=[job_id])).content.decode()
        assert reverse("admin:jobs_batch", args=[batch.id]) in page
        assert ":success" not in page


def test_the_dead_are_retried_and_the_rest_is_cancelled(batch, admin_client, worker):
    admin_client.post(reverse("admin:jobs_batch_retry_dead", args=[batch.id]))
    assert batch.counts["dead"] == 0
    asked = admin_client.post(reverse("admin:jobs_batch_cancel", args=[batch.id]))
    assert "Cancel batch import, of whose members 2 have not ended?" in asked.content.decode()
    admin_client.post(reverse("admin:jobs_batch_cancel", args=[batch.id]), {"confirmed": "1"})
    assert batch.has_ended and batch.counts["cancelled"] == 2


def test_many_members_are_changed_by_a_job(batch, admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.batches.MOST_AT_ONCE", 0)
    Note.objects.all().delete()
    admin_client.post(reverse("admin:jobs_batch_retry_dead", args=[batch.id]))
    run(worker)
    assert batch.has_succeeded


def test_the_data_are_json(batch, admin_client):
    listed = admin_client.get(reverse("admin:jobs_api_batches")).json()
    assert listed["count"] == 2 and {each["name"] for each in listed["batches"]} == {"import", "child"}
    one = admin_client.get(reverse("admin:jobs_api_batch", args=[batch.id])).json()
    assert one["counts"]["dead"] == 1 and one["errors"][0]["number"] == 1 and len(one["children"]) == 1
    assert admin_client.get(reverse("admin:jobs_api_batch", args=["nobody"])).status_code == 404
    assert admin_client.get(reverse("admin:jobs_api_batches") + "?page=0").status_code == 400


def test_the_terminal_lists_and_changes(batch, worker):
    assert [line.split("\t")[-1] for line in show("batches").splitlines()] == ["child", "import"]
    assert json.loads(show("batches", "list", batch.id, "--json"))["batches"][0]["state"] == "running"
    assert show("batches", "retry", batch.id) == f"Batch {batch.id}: 1 job retried.\n"
    assert show("batches", "cancel", batch.id) == f"Batch {batch.id}: 2 jobs cancelled.\n"
    assert show("batches", "seal", batch.id) == f"Batch {batch.id} was sealed.\n"
    with pytest.raises(CommandError, match="No batch 'nobody'"):
        show("batches", "cancel", "nobody")
    with pytest.raises(CommandError, match="Which batches"):
        show("batches", "cancel")


def test_the_metrics_count_batches_by_state(batch):
    assert b'jobs_batches{state="running"} 2.0' in prometheus.text()


def test_the_doctor_names_a_batch_that_nobody_seals(worker):
    record.create(worker.client, "b", record.NewHeader("forgotten", (), 1, ""))
    assert not [finding for finding in doctor.examine() if "forgotten" in finding.what]
    worker.client.hset(keys.batch("b"), "created", 1)
    (finding,) = [finding for finding in doctor.examine() if "forgotten" in finding.what]
    assert finding.what == "1 batch has been open for an hour or more: forgotten."


def test_a_flow_is_drawn_and_run_again_from_a_step(admin_client, worker):
    with Workflow("onboard") as flow:
        fetched = flow.add(Fetch, 4)
        added = flow.add(Add, fetched.result)
        flow.add(Tell, added.result)
    run(worker)
    page = admin_client.get(reverse("admin:jobs_batch", args=[flow.id]))
    assert page.context["drawing"].count("<rect") == 3 and page.context["drawing"].count("is-critical") == 2
    assert page.context["mermaid"].splitlines()[1:4:2] == ['  s0["Fetch: finished"]', '  s2["Tell: finished"]']
    admin_client.post(reverse("admin:jobs_batch_retry_from", args=[flow.id]), {"step": added.id})
    assert added.job.state == "queued"
    admin_client.post(reverse("admin:jobs_batch_retry_from", args=[flow.id]), {"step": "nobody"})

    (one,) = json.loads(show("flows", "--json"))["flows"]
    assert one["steps"][added.id] == [fetched.id]
    assert show("flows").split("\t")[-1] == "onboard\n"
