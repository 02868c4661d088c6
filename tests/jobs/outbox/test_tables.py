"""The tables of a new project: `migrate` makes them, and the doctor names one that is not there."""

import subprocess
import sys

import pytest
from django.db import connection

from jobs import doctor
from jobs.doctor import Severity
from jobs.models import Unsent
from tests.processes import ROOT, child_environment


@pytest.mark.processes
def test_an_empty_database_is_migrated(tmp_path):
    migrate = subprocess.run(
        [sys.executable, "manage.py", "migrate"],
        env=child_environment(DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3", DB="sqlite"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert migrate.returncode == 0, migrate.stderr
    assert "jobs.0006_receipt... OK" in migrate.stdout


@pytest.mark.django_db(transaction=True)
def test_the_doctor_names_a_database_without_the_outbox(valkey):
    with connection.schema_editor() as editor:
        editor.delete_model(Unsent)
    try:
        found = [found for found in doctor.examine() if "jobs_unsent" in found.what]
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(Unsent)
    assert [(each.severity, each.mend) for each in found] == [
        (Severity.ERROR, "python manage.py migrate jobs --database default")
    ]
