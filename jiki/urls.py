"""The addresses of the product's pages."""

from django.urls import path

from jiki import export_views, mail_views, views

urlpatterns = [
    path("", views.Home.as_view(), name="home"),
    path("exercises/", views.exercises, name="exercises"),
    path("exercises/<slug:slug>/", views.exercise, name="exercise"),
    path("courses/<slug:slug>/", views.course, name="course"),
    path("submissions/<int:pk>/", views.submission, name="submission"),
    path("your-data/", export_views.YourData.as_view(), name="your_data"),
    path("your-data/<str:token>/", export_views.Export.as_view(), name="export"),
    path("progress-mails/<str:token>/", mail_views.progress_mails, name="progress_mails"),
]
