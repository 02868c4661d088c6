"""Which page of the product is where."""

from django.urls import path

from jiki import views

urlpatterns = [path("", views.Home.as_view(), name="home")]
