"""Every word of the dashboard can be translated."""

import ast
import re
from pathlib import Path

import pytest
from django.utils import translation
from django.utils.functional import Promise

import jobs
from jobs import bulk
from jobs.client import options
from jobs.dashboard import commands, lists, texts
from jobs.inspection import Count
from jobs.inspection.timeline import ENDS
from jobs.job import JobState

PACKAGE = Path(jobs.__file__).parent
TEMPLATES = sorted((PACKAGE / "templates/jobs/dashboard").glob("*.html"))
NAMES_OF_THINGS = {"RQ", "Python", "MB"}

TRANSLATED = re.compile(r"{%\s*blocktranslate.*?{%\s*endblocktranslate\s*%}", re.DOTALL)
TAG = re.compile(r"{%.*?%}|{{.*?}}|{#.*?#}", re.DOTALL)
ATTRIBUTE = re.compile(r'(?:aria-label|title|placeholder|alt)="([^"]*)"')
ENTITY = re.compile(r"&\w+;")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_text_of_its_own(template):
    source = TAG.sub("", TRANSLATED.sub("", template.read_text()))
    texts = [*ATTRIBUTE.findall(source), re.sub(r"<[^>]*>", " ", source)]
    found = set(re.findall(r"[A-Za-z]{2,}", ENTITY.sub(" ", " ".join(texts))))
    assert found <= NAMES_OF_THINGS


def test_what_pages_name_has_a_word():
    named = {state.value for state in JobState} | set(ENDS) | {*commands.SPANS, *commands.SORTS, *lists.GROUPS}
    named |= {name for names in lists.ACTIONS.values() for name in names} | {
        "quiet",
        "stop",
        "stacks",
        "profile",
        bulk.CLEAR,
    }
    assert named <= texts.NAMES.keys()
    assert all(isinstance(word, Promise) for word in texts.NAMES.values())
    assert not options.DEFAULTS.keys() & texts.NAMES.keys() - {"queue"}  # a class option is shown as it is written


@pytest.mark.parametrize("name", [*bulk.CHANGES, bulk.CLEAR])
def test_every_change_has_its_sentences(name):
    assert "1 job was " in texts.changed_many(name, 1, 0)
    assert texts.changed_many(name, 2_000, 1).startswith("2,000 jobs were ")
    assert "1 was skipped" in texts.changed_many(name, 2, 1)
    assert texts.changed_many(name, 0, 2).startswith("No job was ")
    assert texts.changing_many(name, Count(1)).startswith("1 job is being ")
    assert "7+ jobs are being " in texts.changing_many(name, Count(7, more=True))
    if name in bulk.CHANGES:
        assert "at least 7 jobs" in texts.ask_many(name, Count(7, more=True))
        assert "Job x was " in texts.changed_one(name, "x")


def test_so_many_jobs_are_counted_as_one_speaks():
    counts = (Count(0), Count(1), Count(1_234), Count(0, more=True), Count(1, more=True))
    assert [texts.counted(count) for count in counts] == ["No jobs.", "1 job.", "1,234 jobs.", "0+ jobs.", "1+ jobs."]
    assert [texts.found(count) for count in counts[:3]] == ["None found.", "1 found.", "1,234 found."]


NUMBER = re.compile(r"(?:{{ \w+ }}|%\(n\)s) (?:jobs?|threads?|attempts?|processe?s?|runs?)\b")


def test_no_number_stands_before_a_noun_of_one_form():
    """ "1 jobs" is what becomes of it: the text is to have a form for each number."""
    single = []
    for template in TEMPLATES:
        texts = [found.group() for found in TRANSLATED.finditer(template.read_text())]
        single += [text for text in texts if NUMBER.search(text) and "{% plural %}" not in text]
    for path in (PACKAGE / "dashboard").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "later"):
                single += [arg.value for arg in node.args if NUMBER.search(arg.value)]
    assert single == []


def test_sentences_are_in_the_readers_language(monkeypatch):
    monkeypatch.setattr(texts, "_", lambda text: text.replace("Job", "Auftrag").replace("was deleted", "ist weg"))
    with translation.override("de"):
        assert texts.changed_one("delete", "x") == "Auftrag x ist weg."


def test_no_sentence_of_a_page_is_bare():
    """What `title`, `Done` and `yield` of the pages give to a reader comes through gettext."""
    bare = []
    for path in (PACKAGE / "dashboard").glob("*.py"):
        if path.name in ("api.py", "prometheus.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            given = []
            if isinstance(node, ast.Dict):
                given = [v for k, v in zip(node.keys, node.values, strict=True) if getattr(k, "value", "") == "title"]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Done", "Http404"):
                given = node.args[:1]
            elif isinstance(node, ast.Yield) and node.value is not None:
                given = [node.value]
            bare += [f"{path.name}:{each.lineno}" for each in given if isinstance(each, ast.Constant | ast.JoinedStr)]
    assert bare == []
