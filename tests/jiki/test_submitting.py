"""The pages of exercises and submissions, as a learner uses them; and what the form refuses."""

import re
import tracemalloc
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jiki import lost
from jiki.commands.process_submission import ProcessSubmission
from jiki.models import NOT_CHECKED, Submission, SubmissionFile
from jobs import control, inspection
from jobs.job import JobState
from tests.jiki.conftest import RIGHT, WRONG
from users.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed_in(client, learner):
    client.force_login(learner)
    return client


def text_of(response):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def files(**contents):
    named = {name.replace("__", "."): content for name, content in contents.items()}
    return {"uploads": [SimpleUploadedFile(name, content) for name, content in named.items()], "code": ""}


# --- what a learner sees ---------------------------------------------------------------------


def test_the_start_page_and_the_list_lead_to_the_exercise(client, exercise):
    assert f'href="{reverse("exercises")}"' in client.get("/").content.decode()
    assert f'href="{exercise.get_absolute_url()}"' in client.get(reverse("exercises")).content.decode()


@pytest.mark.parametrize(
    ("state", "shown"),
    [(None, "new"), ("failed", "not yet passed"), ("queued", "not yet passed"), ("passed", "passed")],
)
def test_the_list_says_what_the_learner_has_done(state, shown, signed_in, exercise, submit):
    submit(user=User.objects.create_user("grace@example.org"), state="passed")
    if state:
        submit(state=state)
        submit(state="failed")

    assert f"Adding {shown} " in text_of(signed_in.get(reverse("exercises")))


def test_whoever_is_not_logged_in_reads_and_is_asked_to_log_in(client, exercise):
    page = client.get(exercise.get_absolute_url())
    sent = client.post(exercise.get_absolute_url(), {"code": RIGHT})

    assert "Add <strong>two</strong> things." in page.content.decode()
    assert "<textarea" not in page.content.decode()
    assert f"{reverse('users:login')}?next={exercise.get_absolute_url()}" in page.content.decode()
    assert sent.url == f"{reverse('users:login')}?next={exercise.get_absolute_url()}"
    assert not Submission.objects.exists()


def test_the_form_begins_with_the_starter_then_with_the_last_code(signed_in, exercise, submit):
    exercise.starter = "# begin here"
    exercise.save()
    assert "# begin here" in signed_in.get(exercise.get_absolute_url()).content.decode()

    submit("# went on")

    assert "# went on" in signed_in.get(exercise.get_absolute_url()).content.decode()
    assert "# begin here" in signed_in.get(f"{exercise.get_absolute_url()}?starter").content.decode()


def test_code_is_submitted_and_the_page_follows_it_until_its_end(signed_in, exercise, jobs):
    done = signed_in.post(exercise.get_absolute_url(), {"code": RIGHT.replace("\n", "\r\n")})
    submission = Submission.objects.get()
    assert done.url == submission.get_absolute_url()
    assert submission.sources() == {"solution.py": RIGHT}

    before = signed_in.get(done.url).content.decode()
    assert "It is queued" in before
    assert f'hx-get="{done.url}"' in before
    assert 'http-equiv="refresh"' in before
    jobs.perform_enqueued_jobs()
    part = signed_in.get(done.url, headers={"HX-Request": "true"})
    after = signed_in.get(done.url)

    assert "Passed. Well done!" in part.content.decode()
    assert "<html" not in part.content.decode()
    assert "hx-get" not in part.content.decode()
    assert part["Vary"] == "HX-Request, Cookie"
    assert "no-store" in part["Cache-Control"]
    assert "Passed It adds numbers" in text_of(after)
    assert "refresh" not in after.content.decode()
    assert "<script" not in after.content.decode()


def test_wrong_code_is_told_by_the_checks_message(signed_in, exercise, jobs):
    signed_in.post(exercise.get_absolute_url(), {"code": WRONG})
    jobs.perform_enqueued_jobs()

    page = text_of(signed_in.get(Submission.objects.get().get_absolute_url()))

    assert "Failed: not every check passed." in page
    assert "Failed texts add(&#x27;a&#x27;, &#x27;b&#x27;) returned 3" in page


def test_files_are_submitted(signed_in, exercise):
    sent = files(solution__py=b"\xef\xbb\xbfimport other\r\n", other__py=b"", words__txt="ä".encode())
    signed_in.post(exercise.get_absolute_url(), sent | {"code": "not this"})

    assert Submission.objects.get().sources() == {"solution.py": "import other\n", "other.py": "", "words.txt": "ä"}


def test_anothers_submission_is_a_404(client, submit):
    submission = submit()
    client.force_login(User.objects.create_user("grace@example.org"))

    assert client.get(submission.get_absolute_url()).status_code == 404
    assert client.get(submission.get_absolute_url(), headers={"HX-Request": "true"}).status_code == 404


def test_a_submission_is_not_shown_to_whoever_is_not_logged_in(client, submit):
    assert client.get(submit().get_absolute_url()).url.startswith(reverse("users:login"))


def test_pages_run_no_script_of_their_own(signed_in, exercise, submit):
    for url in (reverse("exercises"), exercise.get_absolute_url(), submit().get_absolute_url()):
        page = signed_in.get(url).content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|https?://|<script(?! src=)", page), url
        assert page.count("<h1>") == 1


# --- what is not checked ---------------------------------------------------------------------


@pytest.mark.parametrize("state", [JobState.DEAD, JobState.CANCELLED, None])
@pytest.mark.django_db(transaction=True)
def test_a_submission_whose_job_will_not_run_does_not_wait_for_ever(state, signed_in, submit, valkey):
    job = ProcessSubmission.defer(1)
    submission = submit(job_id=job.id, created_at=timezone.now() - timedelta(minutes=1))
    assert "It is queued" in signed_in.get(submission.get_absolute_url()).content.decode()
    if state is JobState.CANCELLED:
        control.cancel(inspection.find(job.id))
    elif state is JobState.DEAD:
        job.connection.hset(job.key, "status", "failed")  # as poison leaves it: no hook is called
    else:
        valkey.clean()

    page = signed_in.get(submission.get_absolute_url())

    assert job.state is state
    assert NOT_CHECKED in page.content.decode()
    assert "hx-get" not in page.content.decode()


def test_when_redis_is_away_the_page_stands(signed_in, submit, monkeypatch, caplog):
    def away(job_id):
        raise ConnectionError

    monkeypatch.setattr(lost, "inspection", SimpleNamespace(find=away))
    submission = submit(created_at=timezone.now() - timedelta(minutes=1))

    assert "It is queued" in signed_in.get(submission.get_absolute_url()).content.decode()
    assert "was not read" in caplog.text


# --- what is refused -------------------------------------------------------------------------


def refused(response, message, status=422):
    assert message in text_of(response), text_of(response)
    assert response.status_code == status
    assert "<h1>Adding</h1>" in response.content.decode()
    assert not Submission.objects.exists()
    assert not SubmissionFile.objects.exists()
    return True


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"code": ""}, "There is no code yet."),
        ({"code": " \r\n\t"}, "There is no code yet."),
        ({"code": "x\0"}, "Null characters are not allowed."),
        ({"code": "x" * 100_001}, "Ensure this value has at most 100000 characters"),
        (files(other__py=b"x"), "There is no solution.py among the files."),
        (files(solution__py=b""), "There is no code yet."),
        (files(solution__py=b"\xff\xfe\x00x"), "solution.py is not UTF-8 text. Save it as plain text."),
        (files(solution__py=b"x", image__png=bytes(range(256))), "image.png is not UTF-8 text."),
        (files(solution__py=b"x\0"), "solution.py is not UTF-8 text."),
    ],
)
def test_what_is_no_code_is_refused(sent, message, signed_in, exercise):
    assert refused(signed_in.post(exercise.get_absolute_url(), sent), message)


def test_what_was_typed_is_still_there_when_it_is_refused(signed_in, exercise):
    page = signed_in.post(exercise.get_absolute_url(), files(other__py=b"x") | {"code": "# much work"})

    assert "# much work" in page.content.decode()


def test_two_files_of_one_name_are_refused(signed_in, exercise):
    two = [SimpleUploadedFile("solution.py", b"x") for _ in range(2)]
    page = signed_in.post(exercise.get_absolute_url(), {"uploads": two, "code": ""})

    assert refused(page, "Two files are called solution.py.")


BOUNDARY = "----b"


def multipart(*parts):
    """A body as a browser does not send it: Django's own client mends names."""
    body = b""
    for disposition, content in parts:
        body += f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def send(client, url, body):
    return client.generic("POST", url, body, content_type=f"multipart/form-data; boundary={BOUNDARY}")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../solution.py",
            "/solution.py",
            "a/solution.py",
            "..",
            ".",
            "C:\\\\solution.py",
            "C:solution.py",
            ".profile",
        ),
        *("solution.py\0", "solution.py\x01", "x" * 101, "con\N{RIGHT-TO-LEFT OVERRIDE}yp.py", " x.py", "~root"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name, signed_in, exercise):
    body = multipart(('name="uploads"; filename="solution.py"', b"x"), (f'name="uploads"; filename="{name}"', b"x"))

    assert refused(send(signed_in, exercise.get_absolute_url(), body), "Not an allowed file name: ", 413)


def test_ten_thousand_files_are_refused(signed_in, exercise):
    body = multipart(*((f'name="uploads"; filename="f{n}.py"', b"x") for n in range(10_000)))

    assert refused(send(signed_in, exercise.get_absolute_url(), body), "That is more than 20 files.", 413)


def test_ten_thousand_fields_are_refused(signed_in, exercise):
    body = multipart(*((f'name="f{n}"', b"x") for n in range(10_000)))

    assert refused(send(signed_in, exercise.get_absolute_url(), body), "That is too much at once.", 413)


def test_endless_text_is_refused(signed_in, exercise):
    url, much = exercise.get_absolute_url(), b"x" * 5_000_000

    assert refused(send(signed_in, url, multipart(('name="code"', much))), "That is too much at once.", 413)
    form = "application/x-www-form-urlencoded"
    assert refused(signed_in.generic("POST", url, b"code=" + much, content_type=form), "That is too much at once.", 413)


def test_a_file_that_is_too_large_is_refused(signed_in, exercise):
    for size, page in ((100_001, "solution.py is larger than 100 kB."), (4_000_000, "That is too much at once.")):
        body = multipart(('name="uploads"; filename="solution.py"', b"x" * size))
        assert refused(send(signed_in, exercise.get_absolute_url(), body), page, 413)

    signed_in.post(exercise.get_absolute_url(), files(solution__py=b"#" * 100_000))
    assert Submission.objects.count() == 1


def test_whoever_is_not_logged_in_is_asked_to_before_anything_else(client, exercise):
    body = multipart(('name="uploads"; filename="../x"', b"x"))

    assert send(client, exercise.get_absolute_url(), body).url.startswith(reverse("users:login"))


def test_half_a_body_is_refused(signed_in, exercise):
    page = signed_in.generic("POST", exercise.get_absolute_url(), b"x", content_type="multipart/form-data")

    assert refused(page, "The upload did not arrive complete.", 413)


@pytest.mark.django_db(transaction=True)
def test_a_file_of_100_mb_is_refused_and_never_held(live_server, signed_in, exercise, tmp_path, settings):
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    head, tail = multipart(('name="uploads"; filename="solution.py"', b"|")).split(b"|")
    length = 100_000_000 + len(head + tail)

    def body():
        yield head
        for _ in range(1_000):
            yield b"x" * 100_000
        yield tail

    tracemalloc.start()
    page = httpx.post(
        f"{live_server.url}{exercise.get_absolute_url()}",
        content=body(),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)},
        cookies={"sessionid": signed_in.cookies["sessionid"].value},
        trust_env=False,
        timeout=60,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert page.status_code == 413
    assert "That is too much at once." in page.text
    assert not Submission.objects.exists()
    assert peak < 10_000_000
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_exercise_is_refused_kindly(signed_in):
    for page in (signed_in.get("/exercises/no-such/"), signed_in.post("/exercises/no-such/", {"code": "x"})):
        assert page.status_code == 404
        assert "There is no such exercise" in page.content.decode()


def test_a_form_of_somebody_elses_page_is_refused(exercise, learner):
    client = Client(enforce_csrf_checks=True)
    client.force_login(learner)

    assert client.post(exercise.get_absolute_url(), {"code": RIGHT}).status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/").content.decode())[1]
    sent = client.post(exercise.get_absolute_url(), {"code": RIGHT, "csrfmiddlewaretoken": token})

    assert sent.status_code == 302
    assert Submission.objects.count() == 1


def test_a_learner_who_submits_too_often_waits_and_others_do_not(signed_in, exercise, learner):
    url = exercise.get_absolute_url()
    for _ in range(30):
        assert signed_in.post(url, {"code": "# mine"}).status_code == 302

    page = signed_in.post(url, {"code": "# mine"})
    other = Client()
    other.force_login(User.objects.create_user("grace@example.org"))

    assert page.status_code == 429
    assert re.search(r"Please submit it again in \d+ seconds", page.content.decode())
    assert "# mine" in page.content.decode()
    assert other.post(url, {"code": "x"}).status_code == 302
    assert Submission.objects.filter(user=learner).count() == 30
