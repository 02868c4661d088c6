from django.core.mail import send_mail
from django.utils import timezone

from jobs import Mandate, RetryOn
from orders.models import Order


class SendReceipt(Mandate):
    """Mail the receipt of an order, once, even if the job runs twice."""

    retry_on = [RetryOn(ConnectionError, wait=30, attempts=6)]

    order: Order

    def call(self) -> str:
        if self.order.receipt_sent_at:
            return "sent before"
        send_mail("Your receipt", f"One {self.order.item}.", None, [self.order.customer.email])
        self.order.receipt_sent_at = timezone.now()
        self.order.save(update_fields=["receipt_sent_at"])
        return f"receipt of order {self.order.pk}"
