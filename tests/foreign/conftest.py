"""The processes of `end_to_end.py` make their tables with autocommit; the tests have what their settings say."""

import pytest
from django.db import connection, transaction


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings):
    connection.settings_dict["AUTOCOMMIT"] = True


@pytest.fixture(autouse=True)
def autocommit(request, settings):
    """Without autocommit, a test ends as a view of such a project does; `save()` commits in it."""
    if getattr(settings, "KIND", "") != "manual_commit":
        yield
        return
    request.getfixturevalue("transactional_db")
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)
