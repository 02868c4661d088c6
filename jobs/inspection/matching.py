"""Whether a text or an argument of a job is what a search asks for."""

from typing import Any


def contains(text: str, wanted: str) -> bool:
    """
    Whether a text contains another one, in any case. Numbers are matched whole: `users.User:4` is not in
    `users.User:40`, nor `7` in `17`.
    """
    text, wanted = text.lower(), wanted.lower()
    at = text.find(wanted)
    while wanted and at >= 0:
        end = at + len(wanted)
        begins_inside = at > 0 and wanted[0].isdigit() and text[at - 1].isdigit()
        ends_inside = end < len(text) and wanted[-1].isdigit() and text[end].isdigit()
        if not (begins_inside or ends_inside):
            return True
        at = text.find(wanted, at + 1)
    return not wanted


def is_argument(encoded: Any, shown: str, wanted: str) -> bool:
    """
    Whether an argument has exactly this value: as it is shown, or the text itself. A reference also matches its key:
    `7` is `users.User:7`.
    """
    if shown == wanted or shown == repr(wanted):
        return True
    if isinstance(encoded, dict) and "$record" in encoded:
        return shown.partition(":")[2] == wanted
    return isinstance(encoded, bool) and shown.lower() == wanted.lower()
