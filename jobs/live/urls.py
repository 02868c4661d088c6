"""For a project's ROOT_URLCONF: `path("jobs/", include("jobs.live.urls"))`."""

from django.urls import path

from jobs.live import views

urlpatterns = [
    path("progress/<str:token>/", views.part, name="jobs_progress"),
    path("progress/<str:token>/events/", views.events, name="jobs_progress_events"),
]
