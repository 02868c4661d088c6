"""The dashboard's place in Django's admin."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from jobs import conf, queues
from jobs.errors import RedisUnavailableError
from jobs.models import Dashboard


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """One page instead of a list of records; whoever may view it sees it."""

    def get_urls(self) -> list[URLPattern]:
        """Nothing but the page: there are no records to add, change or delete, nor a table to look them up in."""
        page = self.admin_site.admin_view(self.changelist_view)
        return [path("", page, name="jobs_dashboard_changelist")]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The queues in priority order, with how many jobs wait in each."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        purposes = conf.queues()
        try:
            rows = [(name, purposes[name], length) for name, length in queues.lengths().items()]
            problem = None
        except RedisUnavailableError as error:
            rows, problem = [], str(error)
        context = {
            **self.admin_site.each_context(request),
            "title": "Background jobs",
            "rows": rows,
            "problem": problem,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/jobs/dashboard.html", context)
