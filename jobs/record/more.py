"""
The letters of a record's field `more`: what a job uses that most do not. The claim reads the field with the payload.

Any other text there, as older releases write it, means FEW.
"""

from jobs.broker.connections import Word

FIELD = "more"
FEW = "1"  # the record has some of the fields that few jobs have: the claim reads them
LIMITS = "l"  # it has limits: the claim asks them first (`parts/admit.lua`)
STEPS = "s"  # it has steps: the claim reads how far they have come
ASYNC = "a"  # `call` is a coroutine function: the job is one for an event loop, where a worker has one


def added(fields: tuple[Word, ...], letter: str) -> tuple[Word, ...]:
    """Return a record's fields, names and values in turn, with a letter more in `more`."""
    for at in range(len(fields) - 2, -1, -2):  # a later one counts
        if fields[at] == FIELD:
            return (*fields[: at + 1], with_letter(str(fields[at + 1]), letter), *fields[at + 2 :])
    return (*fields, FIELD, letter)


def with_letter(letters: str, letter: str) -> str:
    """Return the text of `more` with this letter in it."""
    return letters if letter in letters else letters + letter


def without(letters: str, letter: str) -> str:
    """Return the text of `more` without this letter."""
    return letters.replace(letter, "")
