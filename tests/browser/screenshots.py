"""`make screenshots`: the pictures of the docs, of the scene that the browser tests look at. Not part of the suite."""

from pathlib import Path

import pytest

from jobs.inspection import workers
from tests.browser.scene import Scene
from tests.browser.visitor import PHONE, address
from tests.processes import wait_until
from tests.servers import Valkey

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
LARGEST = 150_000  # bytes of a picture

TALL = {"width": 1280, "height": 900}
PICTURES = {
    "overview": ("overview", (), {"viewport": TALL}),
    "overview-dark": ("overview", (), {"color_scheme": "dark", "viewport": TALL}),
    "overview-phone": ("overview", (), {"viewport": PHONE}),
    "dead": ("list", ("dead",), {"query": "?group=error"}),
    "job": ("job", ("dead",), {"viewport": {"width": 1280, "height": 740}}),
    "workers": ("workers", (), {}),
    "recurring": ("recurring", (), {}),
    "commands": ("commands", (), {}),
}


@pytest.fixture
def scene(transactional_db, worker_process):
    scene = Scene()
    worker_process("mailers", "background", "low", name="mail-and-bulk", concurrency=2)  # `low` is paused by now
    wait_until(lambda: any(worker.running for worker in workers.listed()))  # at their next beat
    yield scene
    scene.end()


def test_pictures_are_taken(visitor, scene, valkey: Valkey):
    IMAGES.mkdir(exist_ok=True)
    for name, (page, about, options) in PICTURES.items():
        query = options.pop("query", "")
        about = [scene.dead.id] if page == "job" else about
        visit = visitor(**options)
        with valkey.client() as client:
            for worker in workers.listed():
                client.hset(f"rq:worker:{worker.name}", "hostname", "jobs-1")  # no picture of this machine's name
        visit.go(page, *about, query=query)
        path = IMAGES / f"{name}.png"
        visit.page.screenshot(path=path)
        assert path.stat().st_size < LARGEST, f"{path} is larger than {LARGEST:,} bytes."
        print(f"{path.relative_to(Path.cwd())}  {path.stat().st_size:,} bytes  {address(page, *about)}{query}")
