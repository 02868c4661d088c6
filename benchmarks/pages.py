"""
How long the dashboard's pages take when there is much: `python -m benchmarks.pages`.

It fills a Valkey of its own (`benchmarks.filled`), starts gunicorn as the Dockerfile does, signs in, and asks for each
page in turn over HTTP. A page fails when 5 % of its answers take longer than 150 ms, or when one asks Redis more than
15 times.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from benchmarks import results, servers, tables
from benchmarks.counted import QUERIES, TRIPS, WORKED
from benchmarks.processes import Child, wait_for
from tests.servers import Postgres

SLOWEST = 150  # milliseconds, of 95 % of the answers
MOST_TRIPS = 15  # to Redis, of any answer
REQUESTS, WARM_UP = 50, 2  # for each page; in the latter the process and the server get to know templates and scripts
SECONDS_TO_START = 30
DASHBOARD = "/admin/jobs/dashboard/"
PROBLEM = "errornote"  # the class of what a page says when Redis does not answer
STATES = (
    "queued",
    "running",
    "scheduled",
    "retrying",
    "waiting",
    "blocked",
    "finished",
    "dead",
    "discarded",
    "cancelled",
)
GUNICORN = ["config.wsgi:application", "--worker-tmp-dir", "/dev/shm", "--no-control-socket"]  # noqa: S108  # the Dockerfile's


@dataclass(frozen=True, kw_only=True)
class Page:
    """
    What came out for one page: milliseconds from the request to the end of its answer, and those in which the web
    process worked (the median), kilobytes, round trips to Redis and queries of the database.
    """

    page: str
    p50: float
    p95: float
    max: float
    worked: float
    kilobytes: float
    trips: int
    queries: int

    @property
    def passed(self) -> bool:
        return self.p95 <= SLOWEST and self.trips <= MOST_TRIPS


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jiki-pages-")))
        directory.chmod(0o711)  # PostgreSQL runs as another user, where we are root
        site, known, version = started(directory, stack, options)
        told = ", ".join(f"{count} {state}" for state, count in known["found"].items())
        print(f"filled in {time.monotonic() - begun:.0f} s, {known['memory_mb']:,} MB: {told}", flush=True)
        pages = []
        for name, path in addresses(known).items():
            if not options.only or options.only in name:
                pages.append(measured(site, name, path, options.requests))
                latest = pages[-1]
                told = f"p95 {latest.p95:.0f} ms, {latest.worked:.0f} ms of work, {latest.trips} trips"
                print(f"{name}: {told}", flush=True)
    print(f"\n{table(pages)}\n\n{caption(known, version, options.requests)}")
    failed = [page.page for page in pages if not page.passed]
    print(f"\n{len(pages) - len(failed)} of {len(pages)} pages pass. {time.monotonic() - begun:.0f} s in all.")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the jobs: does everything run")
    parser.add_argument("--one-queue", action="store_true", help="all queued jobs in one queue, not in all five")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"for each page, instead of {REQUESTS}")
    parser.add_argument("--only", default="", help="pages whose name has this in it")
    return parser.parse_args()


def started(
    directory: Path, stack: contextlib.ExitStack, options: argparse.Namespace
) -> tuple[httpx.Client, dict[str, Any], str]:
    """The servers, filled, and a client that is signed in; all are stopped with the stack. With what there is."""
    database = Postgres(directory / "postgres")
    stack.callback(database.stop)
    database.start()
    valkey = stack.enter_context(servers.Valkey(directory, os.environ))
    address = f"http://127.0.0.1:{servers.free_port()}"
    env = servers.environment(valkey.url, database.directory) | {
        "DJANGO_SETTINGS_MODULE": "benchmarks.pages_settings",
        "SITE_URL": address,
        "STATIC_ROOT": str(directory / "static"),
    }
    flags = [flag for flag in ("--quick", "--one-queue") if getattr(options, flag[2:].replace("-", "_"))]
    filler = Child(
        [sys.executable, "-m", "benchmarks.filled", *flags],
        env=env,
        log=directory / "filled.log",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.enter_context(filler)
    assert filler.process.stdout
    line = filler.process.stdout.readline()
    if not line:
        raise SystemExit(f"Nothing could be filled:\n{filler.log_end(20)}")
    web = Child(
        [str(Path(sys.executable).with_name("gunicorn")), *GUNICORN, "--bind", address.removeprefix("http://")],
        env=env,
        log=directory / "web.log",
    )
    stack.enter_context(web)
    port = int(address.rpartition(":")[2])
    wait_for(lambda: servers.listens(port), SECONDS_TO_START, "gunicorn listens", web)
    known = json.loads(line)
    site = stack.enter_context(httpx.Client(base_url=address, timeout=60))
    sign_in(site, *known["login"])
    return site, known, valkey.version()


def sign_in(site: httpx.Client, email: str, password: str) -> None:
    """Give the client a session of that user's."""
    site.get("/admin/login/").raise_for_status()
    form = {"username": email, "password": password, "csrfmiddlewaretoken": site.cookies["csrftoken"]}
    answer = site.post("/admin/login/?next=/admin/", data=form)
    if answer.status_code != 302:
        raise SystemExit(f"Could not sign in: {answer.status_code} {answer.text[:500]}")
    site.get("/admin/").raise_for_status()  # whatever the process does once is done


def addresses(known: dict[str, Any]) -> dict[str, str]:
    """Every page by its name here: its address below the dashboard's."""
    pages = {f"overview, {span}": f"?span={span}" for span in ("hour", "day", "3days")}
    pages |= {f"overview, 3days, {by}": f"?span=3days&by={by}" for by in ("by_queue", "by_command")}
    pages |= {"overview, 3days, run time": "?span=3days&show=runtime"}
    pages |= {f"overview, {span}, wait": f"?span={span}&show=wait" for span in ("hour", "3days")}
    pages |= {f"{state}": f"jobs/{state}/" for state in STATES}
    for state, cursor in known["deep"].items():
        pages[f"{state}, other end first"] = f"jobs/{state}/?order={'oldest' if state == 'dead' else 'newest'}"
        pages[f"{state}, far down"] = f"jobs/{state}/?{urlencode({'cursor': cursor})}"
    filters = {
        "queued": {
            "queue": "default",
            "command": "benchmarks.ImportRow",
            "text": "learner 99999",
            "since": "2020-01-01T00:00",
        },
        "dead": {"queue": "default", "error": "TimeoutError", "text": "number 4242", "until": "2020-01-01T00:00"},
        "scheduled": {"text": "found nowhere"},
    }
    for state, given in filters.items():
        pages |= {f"{state} by {name}": f"jobs/{state}/?{urlencode({name: given[name]})}" for name in given}
    for state in ("dead", "retrying", "discarded"):
        pages |= {f"{state}, grouped by {by}": f"jobs/{state}/?group={by}" for by in ("error", "command")}
    pages |= {f"job, {state}": f"job/{job_id}/" for state, job_id in known["jobs"].items()}
    pages |= {"workers": "workers/", "recurring": "recurring/"}
    pages |= {f"commands, {span}": f"commands/?span={span}" for span in ("hour", "day", "3days")}
    pages |= {f"command, {span}": f"command/benchmarks.SendReport/?span={span}" for span in ("hour", "day", "2weeks")}
    pages |= {"errors": "errors/", "activity": "activity/", "activity by text": "activity/?text=found+nowhere"}
    pages |= {"search, all": "search/"}
    for name, text in {
        "argument": "args.row:99999",
        "error": "error:TimeoutError",
        "text": '"found nowhere"',
        "fingerprint": "fingerprint:0000000000aa",
    }.items():
        pages[f"search by {name}"] = f"search/?{urlencode({'q': text})}"
        pages[f"dead by {name} in a search"] = f"jobs/dead/?{urlencode({'q': text})}"
    pages |= {
        f"api, {name}": f"api/{name}/" for name in ("overview", "errors", "search", "workers", "recurring", "commands")
    }
    pages |= {f"api, {state}": f"api/jobs/{state}/?size=100" for state in ("queued", "dead", "scheduled")}
    return pages | {"api, job": f"api/job/{known['jobs']['dead']}/", "metrics": "metrics/"}


def measured(site: httpx.Client, name: str, path: str, requests: int) -> Page:
    """Ask for one page so many times, one after the other. RuntimeError for an answer that is not the page."""
    times, worked, trips, queries, size = [], [], 0, 0, 0
    for number in range(-WARM_UP, requests):
        start = time.perf_counter()
        answer = site.get(DASHBOARD + path)
        spent = (time.perf_counter() - start) * 1_000
        if answer.status_code != 200 or PROBLEM in answer.text:
            raise RuntimeError(f"{name}: {answer.status_code} {answer.text[-2_000:]}")
        size = len(answer.content)
        if number >= 0:
            times.append(spent)
            worked.append(float(answer.headers[WORKED]))
            trips = max(trips, int(answer.headers[TRIPS]))
            queries = max(queries, int(answer.headers[QUERIES]))
    p95 = statistics.quantiles(times, n=20, method="inclusive")[-1]
    return Page(
        page=name,
        p50=statistics.median(times),
        p95=p95,
        max=max(times),
        worked=statistics.median(worked),
        kilobytes=size / 1_000,
        trips=trips,
        queries=queries,
    )


def table(pages: list[Page]) -> str:
    """The pages as Markdown."""
    columns = {
        "page": [page.page for page in pages],
        "p50 ms": [f"{page.p50:.0f}" for page in pages],
        "p95 ms": [f"{page.p95:.0f}" for page in pages],
        "max ms": [f"{page.max:.0f}" for page in pages],
        "worked ms": [f"{page.worked:.0f}" for page in pages],
        "kB": [f"{page.kilobytes:,.0f}" for page in pages],
        "round trips": [str(page.trips) for page in pages],
        "SQL queries": [str(page.queries) for page in pages],
        "": ["PASS" if page.passed else "FAIL" for page in pages],
    }
    return "\n".join(tables.table(columns))


def caption(known: dict[str, Any], server: str, requests: int) -> str:
    """What was measured on what."""
    machine, sizes = results.machine(), known["sizes"]
    queues = "one queue" if sizes["one_queue"] else "all queues"
    commit = (results.commit() or "unknown")[:10]
    return (
        f"{sizes['queued']:,} queued in {queues}, {sizes['dead']:,} dead, {sizes['scheduled']:,} scheduled, "
        f"{sizes['workers']:,} workers with 10 running jobs each, {sizes['entries']} recurring entries, "
        f"{sizes['commands']} commands and 40 queues. "
        f"{requests} requests a page, one after the other. {datetime.now(UTC):%Y-%m-%d}, commit {commit}, "
        f"{machine['cores']} cores, {server}, PostgreSQL, Python {machine['python']}, gunicorn with one process."
    )


if __name__ == "__main__":
    sys.exit(main())
