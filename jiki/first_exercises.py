"""The exercises of a new installation: one file each in `jiki/exercises`, named by its slug."""

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "exercises"


def load(model: Any) -> None:
    """
    Create the missing exercises, by their slugs. Existing ones stay unchanged, since they may have been edited.

    `model` is Exercise, or the migration's version of it. This runs once, in the first migration: a deleted exercise
    does not come back.
    """
    for path in sorted(FOLDER.glob("*.toml")):
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        texts = {name: value.strip() + "\n" if isinstance(value, str) else value for name, value in fields.items()}
        model.objects.get_or_create(slug=path.stem, defaults=texts | {"title": fields["title"]})
