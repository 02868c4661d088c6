"""A server with access control: TLS, a user with only the necessary rights, and the documented line that gives them."""

import contextlib
import re
from io import StringIO
from pathlib import Path

import django_rq
import pytest
from django.core.management import CommandError, call_command
from redis.exceptions import NoPermissionError, ResponseError

from config.queues import rq_queues
from jobs import control, queues, scheduler
from jobs.broker.connections import get_connection
from jobs.doctor import servers
from jobs.errors import RedisUnavailableError
from jobs.scheduler import Entry
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.sample import functions
from tests.sample.commands.kept import KeepSecondTime
from tests.sample.commands.limits import Once
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.models import Note
from tests.tls import OPENSSL, Certificates, TlsFront

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PAGE = Path(__file__).resolve().parents[3] / "docs/production.md"
PASSWORD = "a-long-password"  # as the page has it


def documented_user():
    """The line of the documentation, which people copy."""
    (line,) = re.findall(r"^user jiki .+$", PAGE.read_text(), re.MULTILINE)
    return line


def use(url, settings, monkeypatch):
    """Make this test, and the workers that it starts, use that server from here on."""
    settings.RQ_QUEUES = rq_queues(url)
    monkeypatch.setenv("REDIS_URL", url)


@pytest.fixture
def guarded(tmp_path, settings, monkeypatch):
    """A server that the test uses as the documented user; `client()` is an administrator's."""
    server = Server(tmp_path / "guarded", "user default on >root ~* &* +@all", documented_user())
    server.url = f"redis://default:root@127.0.0.1:{server.port}/0"
    with server:
        use(f"redis://jiki:{PASSWORD}@127.0.0.1:{server.port}/0", settings, monkeypatch)
        yield server


@pytest.mark.django_db(transaction=True, databases="__all__")  # the doctor looks at each
def test_everything_works_with_the_documented_rights(guarded, worker_process, client, admin_user, capsys):
    worker = worker_process("default", "low")
    scheduler.add(Entry("each second", WriteNote, args=("recurring",), every=1))
    first = WriteNote.defer("first")
    jobs = [
        WriteNote.defer("second", prereq_jobs=[first]),
        WriteNote.using(wait=0.1).defer("later"),
        Once.defer(7),
        *WriteNote.defer_many([("a",), ("b",)]),
    ]
    dead, retried, paused = Fail.defer(), KeepSecondTime.defer("retry"), WriteNote.using(queue="low").defer("paused")
    plain = django_rq.get_queue("default").enqueue(functions.add, 2, 3)

    eventually(lambda: dead.state == "dead" and retried.state == "retrying")
    control.run_now(retried)
    queues.pause("low")
    queues.resume("low")
    control.cancel(WriteNote.using(wait=60).defer("never"))
    control.retry(dead)
    eventually(lambda: {job.state for job in [first, *jobs, paused]} == {"finished"} and plain.is_finished)
    eventually(lambda: Note.objects.filter(text="recurring").exists())
    assert isinstance(WriteNote.defer("waited for").wait(20), int)
    client.force_login(admin_user)
    for page in ("", "jobs/dead/", "workers/", "recurring/", "commands/", "metrics/", "api/overview/"):
        assert client.get(f"/admin/jobs/dashboard/{page}").status_code == 200, page
    call_command("check", stdout=StringIO())
    with contextlib.suppress(CommandError):  # its exit status says how things are
        call_command("jobs_doctor", stdout=StringIO())
    scheduler.remove("each second")
    assert worker.stop() == 0

    with guarded.client(decode_responses=True) as admin:
        refused = {entry["object"] for entry in admin.acl_log()}
    assert refused == {"config|get"}  # the doctor asks, and does without: the answer may hold a password


@pytest.mark.parametrize(
    "words",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("SHUTDOWN",),
        ("ACL", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("GET", "somebody:else"),
        ("EVAL", "return redis.call('GET', 'somebody:else')", "0"),
        ("PUBLISH", "somebody:else", "x"),
        ("REPLICAOF", "NO", "ONE"),
    ],
    ids=" ".join,
)
def test_the_documented_user_may_do_nothing_else(guarded, words):
    with pytest.raises(ResponseError, match="(?i)permission"):
        get_connection("default").execute_command(*words)


def test_without_the_channel_of_waits_they_are_refused_and_the_doctor_says_what_is_lacking(guarded, worker_process):
    with guarded.client() as admin:
        admin.execute_command("ACL", "SETUSER", "jiki", "resetchannels", "&rq:pubsub:*")
    with pytest.raises(NoPermissionError):
        WriteNote.defer("x").wait(20)
    assert worker_process("default", burst=True).wait() == 0
    assert Note.objects.filter(text="x").exists()
    found = [finding for finding in servers.findings() if "sends no messages" in finding.what]
    assert ["&jobs:woken:*" in finding.mend for finding in found] == [True]


def test_a_wrong_password_is_a_clear_error_without_it(guarded, settings):
    settings.RQ_QUEUES = rq_queues(guarded.url.replace("default:root", "jiki:guessed"))

    with pytest.raises(RedisUnavailableError) as refused:
        WriteNote.defer("x")

    assert f"127.0.0.1:{guarded.port}/0" in str(refused.value)
    assert "guessed" not in str(refused.value)


# --- TLS -------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(guarded, tmp_path):
    """The guarded server behind TLS, and the authority that its clients are to trust."""
    if not OPENSSL:
        pytest.skip("there is no openssl to make certificates with")
    certificates = Certificates(tmp_path / "certificates")
    with TlsFront(certificates, guarded.port) as front:
        yield front, certificates


def test_jobs_travel_over_tls(encrypted, worker_process, settings, monkeypatch):
    front, certificates = encrypted
    url = f"rediss://jiki:{PASSWORD}@127.0.0.1:{front.port}/0?ssl_ca_certs={certificates.authority}"
    use(url, settings, monkeypatch)

    job = WriteNote.defer("encrypted")
    worker = worker_process("default")
    eventually(lambda: job.state == "finished")

    assert front.broken == 0  # a process that stops may leave a handshake unfinished
    assert worker.stop() == 0


@pytest.mark.parametrize("scheme", ["rediss", "redis"])
def test_an_unknown_authority_or_no_tls_is_refused(encrypted, settings, monkeypatch, scheme):
    front, _ = encrypted
    use(f"{scheme}://jiki:{PASSWORD}@127.0.0.1:{front.port}/0", settings, monkeypatch)

    with pytest.raises(RedisUnavailableError, match="No answer from Redis"):
        WriteNote.defer("x")

    eventually(lambda: front.broken)
