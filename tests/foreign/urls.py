"""The addresses of the project: the admin, of one kind a site of its own, a page to which mails link, an async view."""

from django.conf import settings
from django.http import HttpResponse
from django.urls import path

from tests.foreign.shop.views import place_order

urlpatterns = [
    path("orders/<int:pk>/", lambda request, pk: HttpResponse("ok"), name="order"),
    path("place/<str:number>/", place_order),
]
if settings.KIND == "own_site":
    from django.contrib import admin

    from jobs.admin import DashboardAdmin
    from jobs.models import Dashboard
    from tests.foreign.shop.models import Order

    office = admin.AdminSite("office")
    office.register(Dashboard, DashboardAdmin)
    office.register(Order)
    urlpatterns.append(path("back/office/", office.urls))
elif settings.KIND != "engine":
    from django.contrib import admin

    from tests.foreign.shop.models import Order

    admin.site.register(Order)
    urlpatterns.append(path("admin/", admin.site.urls))
