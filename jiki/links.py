"""Signed links: to an export, which ends with it, and to the end of progress mails, which needs no login."""

from django.core import signing

from jiki.models import DataExport
from users.links import absolute_url
from users.models import User

EXPORT, PROGRESS = "jiki.export", "jiki.progress"  # salts: a token of one kind is not valid for the other


def export_token(export: DataExport) -> str:
    """Return the token in the address of an export's download."""
    return signing.dumps([export.pk, export.user_id], salt=EXPORT)


def export_url(export: DataExport) -> str:
    """Return the full address of an export's download, for mail."""
    return absolute_url("export", token=export_token(export))


def read_export_token(token: str) -> tuple[int, int]:
    """Return the ids of the export and its user. django.core.signing.BadSignature for an invalid signature."""
    export_id, user_id = signing.loads(token, salt=EXPORT)
    return export_id, user_id


def progress_url(user: User) -> str:
    """Return the full address of the page on which a user ends her progress mails."""
    return absolute_url("progress_mails", token=signing.dumps(user.pk, salt=PROGRESS))


def read_progress_token(token: str) -> int:
    """Return the id of the user. django.core.signing.BadSignature for an invalid signature."""
    user_id: int = signing.loads(token, salt=PROGRESS)
    return user_id
