"""Which code a process runs, so that it shows when workers and web processes are of different releases."""

import dataclasses
import hashlib

from jobs import conf, registry


def code_version() -> str:
    """
    What JOBS["VERSION"] says: a release, a commit. Without it a digest of the commands' names and fields, which tells
    whether payloads mean the same in two processes, and not whether all of their code is the same.
    """
    return str(conf.get("VERSION") or f"commands-{_digest()}")


def _digest() -> str:
    found = hashlib.sha256()
    for name, command in sorted(registry.all_commands().items()):
        found.update(f"{name}\n".encode())
        for field in dataclasses.fields(command):
            is_optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            found.update(f" {field.name} {field.type} {is_optional}\n".encode())
    return found.hexdigest()[:8]
