"""Weeks, from Monday to Sunday, in the project's time zone."""

from datetime import date, datetime, time, timedelta

from django.utils import timezone


def last_week() -> date:
    """Return the Monday of the last complete week."""
    today = timezone.localdate()
    return today - timedelta(days=today.weekday() + 7)


def days_of(week: date) -> tuple[datetime, datetime]:
    """Return the first and the last moment of the week that began on `week`."""
    begin, end = (timezone.make_aware(datetime.combine(day, time.min)) for day in (week, week + timedelta(days=7)))
    return begin, end - timedelta(microseconds=1)
