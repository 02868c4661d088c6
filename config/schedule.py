"""The recurring entries. Data only; docs/howto/schedule.md describes how to change them."""

from django.conf import settings

from jobs.scheduler import Entry

SCHEDULE = [
    Entry("clean up sessions", "users.CleanUpSessions", cron="17 3 * * *"),
    Entry("clean up sent mail", "mailers.CleanUpSentMail", cron="47 3 * * *"),
    Entry("clean up exports", "jiki.CleanUpExports", cron="7 * * * *"),
    Entry("refresh statistics of submissions", "jiki.RefreshStatistics", cron="*/10 * * * *"),
    Entry("send progress mails", "jiki.SendProgressEmails", cron="0 7 * * 1"),
]

if settings.EXERCISES_API_URL:
    SCHEDULE.append(Entry("sync exercises", "jiki.SyncExercises", cron="23 4 * * *"))
