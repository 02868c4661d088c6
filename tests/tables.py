"""
The tables of the test database, for tests that commit: afterwards they are as `migrate` has made them.

Django would flush the database: delete from each table, and then have its applications look for their content types and
permissions, and write them anew. That takes a tenth of a second, and more than a thousand tests commit. Here tables are
asked whether they have rows, and content types and permissions stay, unless the test has changed them.
"""

from typing import Any

from django.apps import apps
from django.db import connections, transaction

Rows = list[tuple[object, ...]]
KEPT = ["contenttypes.ContentType", "auth.Permission"]  # what Django writes after a flush; in the order of their keys


class Tables:
    """Those of one database, to be made while it is as `migrate` has made it."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        quote = self._connection.ops.quote_name
        names = self._connection.introspection.django_table_names(only_existing=True, include_views=False)
        models = {model._meta.label for model in apps.get_models()}
        kept = [quote(apps.get_model(name)._meta.db_table) for name in KEPT if name in models]
        self._emptied = sorted({quote(name) for name in names} - set(kept))
        self._kept = {table: self._rows(table) for table in kept}

    @property
    def _connection(self) -> Any:
        """Asked for each time: beside a browser, where an event loop runs, it is another one."""
        return connections[self._alias]

    def restore(self) -> None:
        """Leave nothing of the test."""
        connection = self._connection
        unchecked = connection.constraint_checks_disabled()  # MariaDB checks foreign keys at once
        with transaction.atomic(using=self._alias), unchecked, connection.cursor() as cursor:
            for table in self._filled():
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608
            changed = [table for table, rows in self._kept.items() if self._rows(table) != rows]
            for table in reversed(changed):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608
            for table in changed:
                places = ", ".join(["%s"] * len(self._kept[table][0]))
                cursor.executemany(f"INSERT INTO {table} VALUES ({places})", self._kept[table])  # noqa: S608
        if changed:
            apps.get_model(KEPT[0]).objects.clear_cache()

    def _filled(self) -> list[str]:
        questions = (
            f"SELECT {number} WHERE EXISTS (SELECT 1 FROM {table})"  # noqa: S608
            for number, table in enumerate(self._emptied)
        )
        with self._connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(questions))
            return [self._emptied[number] for (number,) in cursor.fetchall()]

    def _rows(self, table: str) -> Rows:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table} ORDER BY id")  # noqa: S608
            return cursor.fetchall()
