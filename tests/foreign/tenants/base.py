"""The database backend of such a project: Django's, whose connections have a tenant and a table of its session."""

from importlib import import_module

from django.db import Error

from tests import environment

ENGINES = {"sqlite": "sqlite3", "postgres": "postgresql", "mariadb": "mysql"}
django_base = import_module(f"django.db.backends.{ENGINES[environment.database()]}.base")


class DatabaseWrapper(django_base.DatabaseWrapper):
    tenant = ""

    def enter(self, tenant):
        self.tenant = tenant
        with self.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE of_tenant AS SELECT 1 AS one")

    def has_session(self):
        """Whether the connection's session is one in which a tenant has been entered."""
        try:
            with self.cursor() as cursor:
                cursor.execute("SELECT one FROM of_tenant")
        except Error:
            return False
        return True
