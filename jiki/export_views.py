"""The page on which a learner asks for a copy of her data, and the copy's download."""

import logging
from typing import Any, cast

from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.signing import BadSignature
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views import View
from django_htmx.http import HttpResponseClientRefresh

from jiki.commands.request_export import RequestExport
from jiki.links import export_token, read_export_token
from jiki.models import DataExport, DataExportFile
from jobs.errors import RedisUnavailableError
from users.models import User

logger = logging.getLogger(__name__)


class YourData(LoginRequiredMixin, View):
    """The state of her request; for htmx only the changing part, every two seconds until the request is done."""

    def get(self, request: HttpRequest) -> HttpResponse:
        is_part = request.htmx  # type: ignore[attr-defined]
        page = render(request, "jiki/export.html" if is_part else "jiki/your_data.html", _about(request))
        page["Cache-Control"] = "no-store"  # the browser's "back" must not show an old state
        page["Vary"] = "HX-Request"
        return page

    def post(self, request: HttpRequest) -> HttpResponse:
        """Request an export. Within an hour of the last request only its state is shown."""
        try:
            RequestExport.run(cast(User, request.user))
        except RedisUnavailableError:
            logger.exception("A request for an export was not stored.")
            return render(request, "jiki/your_data.html", {**_about(request), "is_away": True}, status=503)
        return redirect("your_data")

    def handle_no_permission(self) -> Any:
        """After a log-out, show the login page as a page of its own, not as a part of this one."""
        if self.request.htmx:  # type: ignore[attr-defined]
            return HttpResponseClientRefresh()
        return super().handle_no_permission()


class Export(LoginRequiredMixin, View):
    """The ZIP behind a signed link, only for its owner. 404 for other users, 410 after its expiry."""

    def get(self, request: HttpRequest, token: str) -> HttpResponseBase:
        try:
            export_id, user_id = read_export_token(token)
        except BadSignature:
            raise Http404 from None
        if user_id != request.user.pk:
            raise Http404
        oldest = timezone.now() - DataExport.KEPT
        file = DataExportFile.objects.filter(export=export_id, export__ready_at__gt=oldest).first()
        if file is None:
            return render(request, "jiki/export_gone.html", status=410)
        response = HttpResponse(bytes(file.content), content_type="application/zip")
        response["Content-Disposition"] = f'attachment; filename="jiki-data-{export_id}.zip"'
        response["Cache-Control"] = "no-store"
        return response


def _about(request: HttpRequest) -> dict[str, Any]:
    export = DataExport.objects.filter(user=request.user.pk).first()
    now = timezone.now()
    if export and export.expires_at and export.expires_at <= now:
        export = None  # expired, and not yet deleted
    return {
        "export": export,
        "token": export_token(export) if export else "",
        "may_ask": export is None or export.again_at <= now,
    }
