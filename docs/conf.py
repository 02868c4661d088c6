"""
The pages as a site: `make docs`.

The repository is the source directory, so the links between the pages work on the site as they do in a checkout. The
table of contents is llms.txt, which tests/test_docs.py keeps complete.
"""

import re
import shutil
from pathlib import Path

from pygments.lexers.configs import IniLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "django-mandate"
project_copyright = re.search(r"Copyright \(c\) (.+)", (ROOT / "LICENSE").read_text())[1]
release = re.search(r'^__version__ = "(.+?)"', (ROOT / "jobs/__init__.py").read_text(), re.MULTILINE)[1]

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "docs/howto/*.md", "examples/*/README.md"]
exclude_patterns = [".*", "var"]  # large folders without pages, among them the virtual environment
suppress_warnings = ["toc.not_included"]  # docs/README.md, the contents in a checkout
myst_heading_anchors = 4  # the anchors of headings are GitHub's

html_theme = "furo"
html_title = f"{project} {release}"
html_show_sourcelink = False
html_copy_source = False


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    if page != root_doc:
        return
    for title, links in re.findall(r"^## (.+)\n\n((?:- .+\n)+)", (ROOT / "llms.txt").read_text(), re.MULTILINE):
        pages = "\n".join(re.findall(r"\]\(([^)]+)\.md\)", links))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def add_index(app: Sphinx, error: Exception | None) -> None:
    if not error:
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    app.add_lexer("conf", IniLexer)
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
