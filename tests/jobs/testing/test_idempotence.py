"""`assert_idempotent`: runs a command twice, and compares the database after each run."""

import pytest
from django.contrib.auth.models import Group
from django.test import TestCase

from jobs import Mandate
from jobs.testing import assert_idempotent
from tests.sample.commands.notes import Fail, ShoutNote, WriteNote
from tests.sample.commands.original import ProcessSubmission
from tests.sample.models import Note
from users.models import User


@pytest.mark.django_db
def test_a_command_that_may_run_twice_passes():
    note = Note.objects.create(text="x")
    assert_idempotent(ProcessSubmission, note.pk)
    assert_idempotent(ProcessSubmission, submission_id=note.pk)

    assert Note.objects.get().text == "processed"


@pytest.mark.django_db
def test_rows_that_the_second_run_adds_are_named():
    Note.objects.create()
    with pytest.raises(AssertionError) as failed:
        assert_idempotent(WriteNote, "x")

    last = Note.objects.latest("pk").pk
    assert str(failed.value) == f"WriteNote is not idempotent. Its second run changed:\n  sample.Note {last}: added"


@pytest.mark.django_db
def test_columns_that_the_second_run_changes_are_named_records_being_fetched_for_each():
    note = Note.objects.create(text="x")
    with pytest.raises(AssertionError) as failed:
        assert_idempotent(ShoutNote, note, times=2)

    assert str(failed.value).splitlines()[1:] == [f"  sample.Note {note.pk}: text from 'X!!' to 'X!!!!'"]
    assert note.text == "x"


class Toggle(Mandate):
    """Puts a user into a group, or out of it."""

    user: User
    group: Group

    def call(self) -> None:
        if self.user.groups.filter(pk=self.group.pk).exists():
            self.user.groups.remove(self.group)
        else:
            self.user.groups.add(self.group)


@pytest.mark.django_db
def test_rows_that_link_records_count_and_rows_that_go():
    user, group = User.objects.create_user("learner@example.org"), Group.objects.create(name="staff")

    with pytest.raises(AssertionError, match=r"^Toggle is not idempotent.*\n  users.User_groups \d+: removed$"):
        assert_idempotent(Toggle, user, group)


@pytest.mark.django_db
def test_the_commands_errors_are_raised():
    with pytest.raises(RuntimeError, match="no luck"):
        assert_idempotent(Fail, "no luck")
    with pytest.raises(TypeError):
        assert_idempotent(WriteNote)


class ElsewhereRouter:
    """Keeps notes on a separate database, which not every test may use."""

    def db_for_write(self, model, **hints):
        return "other" if model is Note else None

    db_for_read = db_for_write


class OnOneDatabase(TestCase):
    def test_a_database_that_the_test_may_not_use_is_left_out(self):
        with self.settings(DATABASE_ROUTERS=[ElsewhereRouter()]):
            assert_idempotent(type("Idle", (Mandate,), {"call": lambda self: None}))
