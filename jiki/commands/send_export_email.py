"""Mail the link to a learner's copy of her data."""

from jiki.links import export_url
from jiki.models import DataExport
from mailers import data_export
from mailers.command import MailCommand


class SendExportEmail(MailCommand):
    """Mail the link, once for each export. The link is made here: it opens the data, so it must not be in a payload."""

    export: DataExport

    def call(self) -> None:
        data_export.send(self.export.user, number=self.export.pk, export_url=export_url(self.export))
