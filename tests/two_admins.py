"""The addresses of a project with two admin sites; only one of them has the dashboard."""

from django.contrib import admin
from django.urls import path

from jobs.admin import DashboardAdmin
from jobs.models import Dashboard
from users.admin import UserAdmin
from users.models import User

plain, operations = admin.AdminSite("admin"), admin.AdminSite("operations")
plain.register(User, UserAdmin)
operations.register(Dashboard, DashboardAdmin)

urlpatterns = [path("admin/", plain.urls), path("ops/", operations.urls)]
