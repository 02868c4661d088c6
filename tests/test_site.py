"""`make docs`: the pages as a site, with no link that leads nowhere."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT


@pytest.mark.processes
def test_the_site_builds_without_a_warning_and_has_every_page_in_its_contents(tmp_path):
    (options,) = re.findall(r"sphinx-build (.+) -d var/doctrees \. var/site", (ROOT / "Makefile").read_text())
    build = [sys.executable, "-m", "sphinx", *options.split(), "-d", tmp_path / "doctrees", ROOT, tmp_path / "site"]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)

    assert built.returncode == 0, built.stderr
    pages = {str(page.relative_to(ROOT).with_suffix(".html")) for page in ROOT.glob("docs/**/*.md")}
    contents = set(re.findall(r'class="reference internal" href="([^"#]+)', (tmp_path / "site/index.html").read_text()))
    assert contents >= pages | {"CHANGELOG.html", "SECURITY.html"}
    assert "payload" in (tmp_path / "site/searchindex.js").read_text()
