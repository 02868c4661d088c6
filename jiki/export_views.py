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
    """The state of her request. While it is open, the page follows its job, and is loaded anew at its end."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.htmx:  # type: ignore[attr-defined]  # an open page of the last release asks for a part
            return HttpResponseClientRefresh()
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        page = render(request, "jiki/your_data.html", _about(request))
        page["Cache-Control"] = "no-store"  # the browser's "back" must not show an old state
        return page

    def post(self, request: HttpRequest) -> HttpResponse:
        """Request an export. Within an hour of the last request only its state is shown."""
        try:
            RequestExport.run(cast(User, request.user))
        except RedisUnavailableError:
            logger.exception("A request for an export was not stored.")
            return render(request, "jiki/your_data.html", {**_about(request), "is_away": True}, status=503)
        return redirect("your_data")


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
