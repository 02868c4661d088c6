"""Commands whose results matter."""

from jobs import Mandate


class Give(Mandate):
    """Returns what it is given."""

    value: str

    def call(self):
        return self.value
