"""
A project of many tenants: a context variable names the tenant, a router picks the database by it, and connections
keep the tenant's name and state in their session, as schemas with a `search_path` do.
"""

from contextvars import ContextVar

tenant: ContextVar[str] = ContextVar("tenant", default="")


class Router:
    """The tenant's database; that of all for none."""

    def db_for_read(self, model, **hints):
        return tenant.get() or None

    db_for_write = db_for_read
