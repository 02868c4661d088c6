"""
The long description of the distribution: the README, whose links PyPI cannot follow unless they are absolute.

`Source` in [project.urls] is the public address of the repository. Without one the links stay as they are.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)(\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((?!https?:|#)([^)]+)\)")


def absolute(text: str, source: str) -> str:
    """
    Return Markdown whose relative links lead into a repository.

    Args:
        text: of a page at the root of the repository.
        source: its public address, such as "https://github.com/owner/name"; "" leaves the text as it is.
    """
    folder = {"": f"{source.rstrip('/')}/blob/HEAD/", "!": f"{source.rstrip('/')}/raw/HEAD/"}  # "!": a picture
    return RELATIVE.sub(lambda found: f"{found[1]}{found[2]}({folder[found[1]]}{found[3]})", text) if source else text


class LongDescription(MetadataHookInterface):
    """Hatchling's metadata hook `custom`: sets `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source", "")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, source)}
