from datetime import timedelta

from jobs.scheduler import Entry

ENTRIES = [
    Entry("each second", "shop.Count", every=timedelta(seconds=1)),
    Entry("at night", "shop.Count", cron="30 3 * * *", timezone="Europe/Berlin"),
]
