from datetime import timedelta

from django.utils import timezone

from jobs import Mandate
from orders.models import Order


class CancelStaleOrders(Mandate):
    """Cancel the orders that nobody has paid for a week."""

    days: int = 7

    def call(self) -> int:
        before = timezone.now() - timedelta(days=self.days)
        stale = Order.objects.filter(state=Order.State.OPEN, placed_at__lt=before)
        return stale.update(state=Order.State.CANCELLED)
