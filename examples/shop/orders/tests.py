from datetime import timedelta

from django.core import mail
from django.test import TestCase
from django.utils import timezone

from jobs.testing import JobsTestMixin
from orders.commands.cancel_stale_orders import CancelStaleOrders
from orders.commands.send_receipt import SendReceipt
from orders.models import Order, User


class OrderTest(JobsTestMixin, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.customer = User.objects.create_user("ada", "ada@example.org", "x")

    def test_an_order_is_followed_by_a_receipt(self) -> None:
        answer = self.client.post("/orders/", {"customer": "ada", "item": "lamp"})

        order = Order.objects.get(pk=answer.json()["order"])
        self.assert_enqueued_with(SendReceipt, args=(order,), queue="default")
        self.perform_enqueued_jobs()
        self.assertEqual([message.to for message in mail.outbox], [["ada@example.org"]])

    def test_a_receipt_is_sent_once(self) -> None:
        order = Order.objects.create(customer=self.customer, item="lamp")

        SendReceipt.run(order)
        SendReceipt.run(order)

        self.assertEqual(len(mail.outbox), 1)

    def test_a_job_returns_what_it_has_done(self) -> None:
        order = Order.objects.create(customer=self.customer, item="lamp")

        self.assertEqual(SendReceipt.defer(order).wait(5), f"receipt of order {order.pk}")

    def test_stale_orders_are_cancelled(self) -> None:
        fresh, stale = (Order.objects.create(customer=self.customer, item=item) for item in ("lamp", "chair"))
        Order.objects.filter(pk=stale.pk).update(placed_at=timezone.now() - timedelta(days=8))

        self.assertEqual(CancelStaleOrders.run(), 1)

        fresh.refresh_from_db()
        stale.refresh_from_db()
        self.assertEqual((fresh.state, stale.state), ("open", "cancelled"))
