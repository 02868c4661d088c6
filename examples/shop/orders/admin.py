from django.contrib import admin

from orders.models import Order, User

admin.site.register([Order, User])
