"""Lists of recurring entries."""

from jobs.scheduler import Entry

ONE_IS_WRONG = [
    Entry("never", "sample.WriteNote", args=("never",), cron="0 0 31 2 *"),
    Entry("good", "sample.WriteNote", args=("good",), every=1),
]
