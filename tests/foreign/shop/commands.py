"""The project's commands."""

from datetime import datetime

from django.db import connection, router, transaction
from django.urls import reverse
from django.utils import timezone

from jobs import Mandate
from tests.foreign.shop.models import Line, Order, Parcel
from tests.foreign.tenants import tenant


class Ship(Mandate):
    order: Order

    def call(self) -> str:
        with transaction.atomic():
            self.order.shipped = True
            self.order.save(update_fields=["shipped"])
            MailLink.defer(self.order)
        if not transaction.get_autocommit():
            transaction.commit()
        return self.order.number


class MailLink(Mandate):
    queue = "mail"
    order: Order

    def call(self) -> str:
        return reverse("order", args=[self.order.pk])


class Postpone(Mandate):
    order: Order
    due: datetime

    def call(self) -> list[object]:
        Order.objects.filter(pk=self.order.pk).update(due=self.due)
        if not transaction.get_autocommit():
            transaction.commit()
        return [self.due, timezone.now()]


class Break(Mandate):
    retries = 1
    text: str = "no luck"

    def call(self) -> None:
        with transaction.atomic():
            Order.objects.create(number=self.text)
            raise RuntimeError(self.text)


class Count(Mandate):
    def call(self) -> int:
        return Order.objects.count()


class Pack(Mandate):
    parcel: Parcel
    line: Line

    def call(self) -> list[Parcel | Line]:
        self.line.is_packed = True
        self.line.save(update_fields=["is_packed"])
        if not transaction.get_autocommit():
            transaction.commit()
        return [self.parcel, self.line]


class Enter(Mandate):
    """Enters a tenant and does not leave it. Returns what it found before."""

    retries = 0
    tenant: str
    breaks: bool = False

    def call(self) -> list[str | bool]:
        found = [tenant.get(), router.db_for_write(Order), connection.tenant, connection.has_session()]
        tenant.set(self.tenant)
        connection.enter(self.tenant)
        if self.breaks:
            raise RuntimeError(found)
        return found


class Place(Mandate):
    order: Order

    def call(self) -> str:
        return self.order._state.db
