"""The recurring entries."""

from orders.commands.cancel_stale_orders import CancelStaleOrders

from jobs.scheduler import Entry

SCHEDULE = [Entry("cancel stale orders", CancelStaleOrders, cron="15 4 * * *")]
