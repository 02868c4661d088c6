"""The signed link to an export: nobody guesses it, and it ends with the export."""

from django.core import signing

from jiki.models import DataExport
from users.links import absolute_url

SALT = "jiki.export"


def export_token(export: DataExport) -> str:
    """What stands in the address of an export's download."""
    return signing.dumps([export.pk, export.user_id], salt=SALT)


def export_url(export: DataExport) -> str:
    """The full address of an export's download, for mail."""
    return absolute_url("export", token=export_token(export))


def read_export_token(token: str) -> tuple[int, int]:
    """The ids of the export and of its user. Raises django.core.signing.BadSignature for what we have not signed."""
    export_id, user_id = signing.loads(token, salt=SALT)
    return export_id, user_id
