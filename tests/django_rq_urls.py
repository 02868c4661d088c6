"""The site with django-rq's own pages, which must be able to read our data."""

from django.urls import include, path

from config.urls import urlpatterns

urlpatterns = [*urlpatterns, path("django-rq/", include("django_rq.urls"))]
