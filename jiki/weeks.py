"""Weeks, from Monday to Sunday, where the project is."""

from datetime import date, datetime, time, timedelta

from django.utils import timezone


def last_week() -> date:
    """The Monday of the last whole week."""
    today = timezone.localdate()
    return today - timedelta(days=today.weekday() + 7)


def days_of(week: date) -> tuple[datetime, datetime]:
    """The first and the last moment of the week that began on that day."""
    begin, end = (timezone.make_aware(datetime.combine(day, time.min)) for day in (week, week + timedelta(days=7)))
    return begin, end - timedelta(microseconds=1)
