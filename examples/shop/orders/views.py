from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.commands.send_receipt import SendReceipt
from orders.models import Order, User


@csrf_exempt  # the shop's till sends JSON, not a form
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Place an order, and send its receipt by a job."""
    with transaction.atomic():
        customer = User.objects.get(username=request.POST["customer"])
        order = Order.objects.create(customer=customer, item=request.POST["item"])
        job = SendReceipt.defer(order)  # once the transaction has committed
    return JsonResponse({"order": order.pk, "job": job.id}, status=201)
