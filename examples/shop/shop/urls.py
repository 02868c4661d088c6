from django.contrib import admin
from django.urls import path
from orders.views import place

urlpatterns = [path("orders/", place, name="place"), path("admin/", admin.site.urls)]
