"""The addresses of the site."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("jiki.urls")),
    path("", include("users.urls")),
    path("admin/", admin.site.urls),
    path("jobs/", include("jobs.live.urls")),
]
