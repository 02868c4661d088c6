"""An error in one line, and the errors of a group."""

REASON_LENGTH = 500  # characters


def reason_of(error: BaseException) -> str:
    """Describe an error in one line: its class and text, and the members of a group at any depth."""
    try:
        text = _members(error) if isinstance(error, BaseExceptionGroup) else str(error)
    except BaseException:
        text = "(its text cannot be read)"
    return f"{type(error).__qualname__}: {text}"[:REASON_LENGTH]


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    members = leaves(group)
    shown = "; ".join(reason_of(member) for member in members[:REASON_LENGTH])
    return f"{group.message} ({len(members)}): {shown}"


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors of a group at any depth, in their order; the error itself if it is not a group."""
    errors, left = [], [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            errors.append(each)
    return errors
