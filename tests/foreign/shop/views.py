"""A view that a project under ASGI has."""

from django.contrib.auth.decorators import login_not_required
from django.http import JsonResponse

from tests.foreign.shop import tasks
from tests.foreign.shop.commands import Count, MailLink, Ship
from tests.foreign.shop.models import Order


@login_not_required
async def place_order(request, number):
    order = await Order.objects.acreate(number=number)
    count = await Count.arun()
    jobs = [await Ship.adefer(order), await MailLink.adefer(order, wait=60)]
    task = await tasks.count.aenqueue(count)
    return JsonResponse({"jobs": [job.id for job in jobs], "task": task.id})
