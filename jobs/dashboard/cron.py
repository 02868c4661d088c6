"""A cron expression in words: "At 04:30, Monday through Friday". The extra `dashboard` brings cron-descriptor."""

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def in_words(expression: str) -> str:
    """Return the expression in words; "" for one that has none, and without the package."""
    try:
        from cron_descriptor import FormatException, Options, get_description
    except ImportError:
        return ""
    expression = ALIASES.get(expression.strip().lower(), expression)
    if len(expression.split()) != 5:  # with seconds, ours stand last, the package's first
        return ""
    try:
        return str(get_description(expression, Options(use_24hour_time_format=True, locale_code="en_US")))
    except FormatException:
        return ""
