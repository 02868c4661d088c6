"""Which page of the product is where."""

from django.urls import path

from jiki import views

urlpatterns = [
    path("", views.Home.as_view(), name="home"),
    path("exercises/", views.exercises, name="exercises"),
    path("exercises/<slug:slug>/", views.exercise, name="exercise"),
    path("submissions/<int:pk>/", views.submission, name="submission"),
]
