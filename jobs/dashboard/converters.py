"""Names and ids in addresses. Any client of Redis may choose them, so every name needs an address that leads to it."""

from urllib.parse import quote, unquote

EMPTY = "%"  # as `quote` writes no text


class NameConverter:
    """
    Any text as one part of a path. What would end the part (`/`), or mean something as one (`.`, `..`), is quoted once
    more than an address is.
    """

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return "" if value == EMPTY else unquote(value)

    def to_url(self, value: object) -> str:
        text = str(value).encode(errors="replace").decode()
        if text.strip(".") == "":
            return text.replace(".", "%2E") or EMPTY
        return text if not set("/%\\").intersection(text) and text.isprintable() else quote(text, safe=" ")
