"""What is in the copy of a learner's data, and what is not."""

import io
import json
import tracemalloc
import zipfile

import pytest

from jiki import archive
from jiki.commands.refresh_statistics import RefreshStatistics
from jiki.models import Submission, SubmissionFile

pytestmark = pytest.mark.django_db


def write(user, file):
    submissions = user.submissions.select_related("exercise").order_by("pk")
    archive.write(user, map(archive.files_of, submissions.iterator(chunk_size=100)), file)


def unpacked(user):
    file = io.BytesIO()
    write(user, file)
    with zipfile.ZipFile(file) as found:
        assert found.testzip() is None
        return {name: found.read(name).decode() for name in found.namelist()}


def test_it_has_the_account_each_submission_with_its_code_and_results_and_the_statistics(pupil, loops, hand_in):
    first = hand_in(pupil, loops, passed=False, files={"main.py": "print('é')\n", "lib/a.py": "A = 1\n"})
    second = hand_in(pupil, loops)
    RefreshStatistics.run()
    found = unpacked(pupil)

    assert json.loads(found["account.json"])["email"] == "learner@example.org"
    assert json.loads(found["statistics.json"])[0]["pass_rate_percent"] == 100
    folder = f"submissions/{first.pk}-loops"
    assert found[f"{folder}/code/main.py"] == "print('é')\n"
    assert found[f"{folder}/code/lib/a.py"] == "A = 1\n"
    told = json.loads(found[f"{folder}/submission.json"])
    assert (told["exercise"], told["state"]) == ("loops", "failed")
    assert told["results"] == [{"name": "check_it", "passed": False, "message": "It gave 2."}]
    assert f"submissions/{second.pk}-loops/submission.json" in found
    assert len(found) == 8


def test_it_has_nothing_of_anybody_else_and_no_password(pupil, stranger, loops, hand_in):
    hand_in(stranger, loops)
    found = unpacked(pupil)

    assert sorted(found) == ["README.txt", "account.json", "statistics.json"]
    assert json.loads(found["statistics.json"]) == []
    assert pupil.password not in "".join(found.values())


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\c"])
def test_no_path_leads_out_of_its_folder(path, pupil, loops, hand_in):
    submission = hand_in(pupil, loops, files={path: "x"})
    code = [name for name in unpacked(pupil) if "/code/" in name]

    assert all(name.startswith(f"submissions/{submission.pk}-loops/code/") and ".." not in name for name in code)
    assert len(code) == 1


def test_one_that_is_too_large_is_refused_with_the_bound(pupil, loops, hand_in, monkeypatch):
    monkeypatch.setattr(archive, "MOST", 100)
    hand_in(pupil, loops)
    with pytest.raises(archive.ArchiveTooLargeError, match="more than 100 bytes"):
        unpacked(pupil)


def test_a_learner_of_many_submissions_needs_no_more_memory(pupil, loops, tmp_path):
    Submission.objects.bulk_create(Submission(user=pupil, exercise=loops) for _ in range(400))
    code = "x" * 50_000
    SubmissionFile.objects.bulk_create(
        SubmissionFile(submission=each, path="main.py", content=code) for each in Submission.objects.all()
    )
    tracemalloc.start()
    with (tmp_path / "zip").open("wb+") as file:
        write(pupil, file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5_000_000  # the code is four times as much
