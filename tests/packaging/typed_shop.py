"""
What type checkers make of the example's commands. test_wheel.py copies this file into the example.

A line with `type: ignore` is refused: a checker that accepts it reports the comment as unused.
"""

from datetime import timedelta
from typing import assert_type

from orders.commands.cancel_stale_orders import CancelStaleOrders
from orders.commands.send_receipt import SendReceipt
from orders.models import Order

from jobs import Mandate, MandateJob


class FetchInvoice(Mandate):
    number: int

    async def call(self) -> bytes:
        return b""


def results(order: Order) -> None:
    assert_type(SendReceipt.run(order), str)
    assert_type(CancelStaleOrders.run(), int)
    assert_type(CancelStaleOrders.run(days=3), int)
    assert_type(FetchInvoice.run(7), bytes)
    SendReceipt.run("lamp")  # type: ignore[arg-type]
    SendReceipt.run()  # type: ignore[call-arg]
    CancelStaleOrders.run(day=3)  # type: ignore[call-arg]


def fields(order: Order) -> None:
    assert_type(SendReceipt.defer(order), MandateJob[str])
    assert_type(CancelStaleOrders.defer(days=3), MandateJob[int])
    assert_type(FetchInvoice.defer(7), MandateJob[bytes])
    assert_type(SendReceipt.defer(order, wait=timedelta(minutes=5), queue="default"), MandateJob[str])
    assert_type(SendReceipt.defer_many([(order,), {"order": order}], spread=60), list[MandateJob[str]])
    SendReceipt.defer("lamp")  # type: ignore[call-overload]
    SendReceipt.defer()  # type: ignore[call-overload]
    CancelStaleOrders.defer(day=3)  # type: ignore[call-overload]


def options(order: Order) -> None:
    assert_type(SendReceipt.using(wait=60).defer(order), MandateJob[str])
    assert_type(CancelStaleOrders.using(queue="default").defer(days=3), MandateJob[int])
    SendReceipt.using(wait=60).defer("lamp")  # type: ignore[arg-type]
    CancelStaleOrders.using(wait=60).defer(day=3)  # type: ignore[call-arg]
    SendReceipt.using(queue=7)  # type: ignore[arg-type]


def jobs(job: MandateJob) -> None:
    assert_type(job.id, str)
    SendReceipt.using(prereq_jobs=[job], prereq_failure="run")
    SendReceipt.using(prereq_failure="runs")  # type: ignore[arg-type]


def waits(order: Order) -> None:
    assert_type(SendReceipt.defer(order).wait(5), str)
    assert_type(SendReceipt.using(wait=60).defer(order).wait(timedelta(minutes=2)), str)
    assert_type(FetchInvoice.defer(7).wait(), bytes)
    assert_type(FetchInvoice.defer(7, queue="default").wait(), bytes)
    assert_type([job.wait() for job in FetchInvoice.defer_many([(7,)])], list[bytes])
    SendReceipt.defer(order).wait("soon")  # type: ignore[arg-type]


async def from_async_code(order: Order) -> None:
    assert_type(await SendReceipt.adefer(order, wait=60), MandateJob[str])
    assert_type(await (await SendReceipt.adefer(order)).await_result(5), str)
    assert_type(await (await FetchInvoice.adefer(7)).await_result(), bytes)
