"""The copy of a learner's data: a ZIP of JSON files and of her code as submitted."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any

from django.core.serializers.json import DjangoJSONEncoder

from jiki.models import DataExport, DataExportPart, ExerciseStatistics, Submission
from users.models import User

Files = list[tuple[str, str]]  # path and text
MOST = 25_000_000  # bytes of one ZIP; it is stored in the database, and held once in a worker's memory

README = """\
This is a copy of your data on Jiki.

account.json        your account
statistics.json     the exercises that you have worked on, and how all learners get on with them
submissions/        one folder for each submission: your code, and in submission.json what became of it

Times are in UTC. Your password is not in here: we keep only a hash of it, which is of use to nobody else.
"""


class ArchiveTooLargeError(Exception):
    """Raised when the ZIP has more than MOST bytes."""


def collect(export: DataExport, submission: Submission) -> None:
    """Store what the ZIP is to have of a submission, once."""
    files = {"files": files_of(submission)}
    DataExportPart.objects.update_or_create(export=export, submission_id=submission.pk, defaults=files)


def of(export: DataExport) -> bytes:
    """Return the ZIP of an export, with the submissions that were collected. Raises ArchiveTooLargeError."""
    with TemporaryFile() as file:
        write(export.user, export.parts.values_list("files", flat=True).iterator(chunk_size=1), file)
        file.seek(0)
        return file.read()


def write(user: User, submissions: Iterable[Files], file: IO[bytes]) -> None:
    """
    Write the ZIP of all data about a user into a seekable file; `submissions` are what `files_of` returns for each.

    Raises ArchiveTooLargeError.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README)
        archive.writestr("account.json", _json(_account(user)))
        archive.writestr("statistics.json", _json(_statistics(user)))
        for files in submissions:
            for path, text in files:
                archive.writestr(path, text)
            if file.tell() > MOST:
                raise ArchiveTooLargeError(f"The export of users.User:{user.pk} has more than {MOST:,} bytes.")


def files_of(submission: Submission) -> Files:
    """Return the files about a submission, as pairs of path and text."""
    folder = f"submissions/{submission.pk}-{submission.exercise.slug}"
    about = {
        "exercise": submission.exercise.slug,
        "title": submission.exercise.title,
        "state": submission.state,
        "message": submission.message,
        "submitted_at": submission.created_at,
        "checked_at": submission.checked_at,
        "results": list(submission.results.values("name", "passed", "message")),
    }
    code = submission.files.values_list("path", "content")
    return [(f"{folder}/submission.json", _json(about))] + [
        (f"{folder}/code/{_inside(path)}", content) for path, content in code
    ]


def _inside(path: str) -> str:
    """Return the path in the archive: always below its folder."""
    return "/".join(part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", ".."))


def _account(user: User) -> dict[str, Any]:
    return {
        "email": user.email,
        "joined_at": user.date_joined,
        "last_login_at": user.last_login,
        "exports": [export.asked_at for export in user.exports.all()],
    }


def _statistics(user: User) -> list[dict[str, Any]]:
    statistics = (
        ExerciseStatistics.objects.filter(exercise__submissions__user=user).select_related("exercise").distinct()
    )
    return [
        {
            "exercise": each.exercise.slug,
            "learners": each.learners,
            "pass_rate_percent": each.pass_rate,
            "counted_at": each.refreshed_at,
        }
        for each in statistics.order_by("exercise__position", "exercise__title")
    ]


def _json(value: object) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, indent=2, ensure_ascii=False) + "\n"
