"""The dashboard's place in Django's admin."""

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern

from jobs.dashboard.urls import patterns
from jobs.models import Dashboard


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """One page instead of a list of records, for users with the permission to view it."""

    def get_urls(self) -> list[URLPattern]:
        """Return the dashboard's pages. There are no records to add, change or delete, and there is no table."""
        return patterns(self.admin_site)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Dashboard | None = None) -> bool:
        return False
