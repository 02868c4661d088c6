"""What the tests of accounts share."""

import pytest

from users.models import User

PASSWORD = "quilt-zebra-42"


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("Learner@example.org", PASSWORD)
