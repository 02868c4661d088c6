"""What other apps may listen to."""

from django.dispatch import Signal

#: Sent with `user` when somebody has signed up: after the user is saved, and before that transaction commits, so a
#: receiver that raises undoes the signup, and a job it defers leaves only when the account is there to stay.
user_signed_up = Signal()
