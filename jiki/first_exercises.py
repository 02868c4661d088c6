"""The exercises that a new installation has: one file each, in `jiki/exercises`, named by its slug."""

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "exercises"


def load(model: Any) -> None:
    """
    Make those that are missing, by their slugs; what is there is left as it is, since it may have been edited.

    `model` is Exercise, or the migration's own picture of it. It runs once, in the first migration: an exercise that
    somebody deletes does not come back.
    """
    for path in sorted(FOLDER.glob("*.toml")):
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        texts = {name: value.strip() + "\n" if isinstance(value, str) else value for name, value in fields.items()}
        model.objects.get_or_create(slug=path.stem, defaults=texts | {"title": fields["title"]})
