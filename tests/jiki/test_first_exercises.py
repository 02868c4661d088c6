"""The exercises of a new installation: each can be solved, and is not solved by what it begins with."""

import pytest

from jiki import first_exercises, sandbox
from jiki.models import Exercise
from jiki.templatetags.markdown import markdown

SOLUTIONS = {
    "say-hello": "def greet(name='you'):\n    return f'Hello, {name}!'\n",
    "staircase": "def staircase(steps):\n    for step in range(steps):\n        print('#' * (step + 1))\n",
    "leap-years": "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n",
    "fizz-buzz": """
def fizz_buzz(last):
    return [("Fizz" * (n % 3 == 0) + "Buzz" * (n % 5 == 0)) or str(n) for n in range(1, last + 1)]
""",
    "count-words": """
from collections import Counter

def count_words(text):
    return dict(Counter(word.strip(".,!?") for word in text.lower().split()))
""",
    "roman-numerals": """
LETTERS = {1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX",
           5: "V", 4: "IV", 1: "I"}

def to_roman(number):
    if not 1 <= number <= 3999:
        raise ValueError(number)
    written = ""
    for value, letters in LETTERS.items():
        while number >= value:
            written, number = written + letters, number - value
    return written
""",
}


@pytest.fixture
def exercises(db):
    first_exercises.load(Exercise)
    return Exercise.objects.all()


def test_there_is_a_solution_here_for_each(exercises):
    assert {exercise.slug for exercise in exercises} == SOLUTIONS.keys()
    assert list(exercises) == sorted(exercises, key=lambda exercise: exercise.position)


@pytest.mark.parametrize("slug", SOLUTIONS)
def test_it_can_be_solved_and_is_not_solved_by_what_it_begins_with(slug, exercises):
    exercise = exercises.get(slug=slug)
    exercise.full_clean()

    begun = sandbox.check({"solution.py": exercise.starter}, exercise.checks)
    solved = sandbox.check({"solution.py": SOLUTIONS[slug]}, exercise.checks)

    assert solved.passed, solved
    assert not begun.passed
    assert begun.results, begun.message
    assert "<h1>" not in markdown(exercise.text)


def test_what_has_been_edited_is_left_as_it_is(exercises):
    exercises.filter(slug="say-hello").update(title="Hello")

    first_exercises.load(Exercise)

    assert exercises.get(slug="say-hello").title == "Hello"
    assert len(exercises.all()) == len(SOLUTIONS)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** `b`", "<p><strong>a</strong> <code>b</code></p>\n"),
        ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>\n"),
        ("[x](javascript:alert)", "<p>[x](javascript:alert)</p>\n"),
    ],
)
def test_markdown_brings_no_html_of_its_own(text, html):
    assert markdown(text) == html
