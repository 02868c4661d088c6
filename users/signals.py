"""The signals for other apps."""

from django.dispatch import Signal

#: Sent with `user` after a sign-up: when the user is saved, before the transaction commits. So a receiver that raises
#: undoes the sign-up, and a job that it defers is enqueued only at the commit.
user_signed_up = Signal()
