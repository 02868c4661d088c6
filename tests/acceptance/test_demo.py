"""`make demo`: real web, worker and Valkey processes, from the signup form to the mail."""

import re
import socket
from pathlib import Path

import pytest

from jobs.broker import embedded
from jobs.broker.embedded import EmbeddedValkey
from tests.acceptance.programs import Program

pytestmark = pytest.mark.processes


def nothing_is_left(directory: Path, port: int | None = None) -> bool:
    if port:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return not EmbeddedValkey(directory / "valkey").is_running()


def test_a_learner_signs_up_and_a_worker_sends_the_welcome_mail(tmp_path: Path) -> None:
    directory = tmp_path / "demo"

    with Program("demo", "--directory", str(directory)) as demo:
        code = demo.wait()

    assert code == 0, demo.output
    assert re.search(
        r"sign-up   sending the form at http://127.0.0.1:\d+/signup/ \.\.\. learner@jiki.example is user 1\n",
        demo.output,
    )
    assert "(users.SendWelcomeEmail, queue mailers)" in demo.output
    assert "run by demo-" in demo.output
    assert "The worker sent the mail." in demo.output
    [mail] = (directory / "mail").iterdir()
    assert str(mail) in demo.output
    assert "Subject: Welcome to Jiki" in mail.read_text()
    assert nothing_is_left(directory)


@pytest.mark.slow
def test_it_runs_again_where_it_ran_and_where_paths_are_long(tmp_path: Path) -> None:
    directory = tmp_path / ("a long name, " * 12)

    for _ in range(2):
        with Program("demo", "--directory", str(directory)) as demo:
            assert demo.wait() == 0, demo.output

    assert len(list((directory / "mail").iterdir())) == 1
    assert not embedded.socket_path(directory / "valkey").parent.exists()


def test_a_worker_that_does_not_start_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Program("demo", "--directory", str(tmp_path / "demo"), "--queues", "nonsense") as demo:
        code = demo.wait()

    assert code == 1
    assert "The worker process ended with code" in demo.output
    assert f"The end of {tmp_path}/demo/worker.log" in demo.output
    assert "nonsense" in demo.output.partition("The end of")[2]
    assert nothing_is_left(tmp_path / "demo")


@pytest.mark.slow
def test_a_mail_that_nobody_sends_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    arguments = ["--directory", str(tmp_path / "demo"), "--queues", "critical", "--timeout", "2"]

    with Program("demo", *arguments) as demo:
        code = demo.wait()

    assert code == 1
    assert (
        "job       waiting for the worker ... \n"
        "CommandError: Waited 2 s in vain for the worker to finish users.SendWelcomeEmail (queue mailers)."
    ) in demo.output
    assert "The worker process is running." in demo.output
    assert "The web process is running." in demo.output
    assert nothing_is_left(tmp_path / "demo")


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    with Program("demo", "--directory", str(tmp_path / "demo"), "--queues", "critical") as demo:
        port = int(demo.read_until(" web ").strip(" /\n").rpartition(":")[2])
        demo.read_until("is user 1")
        demo.interrupt()
        code = demo.wait()

    assert code == 130
    assert "No process is left running." in demo.output
    assert "Traceback" not in demo.output
    assert nothing_is_left(tmp_path / "demo", port)


@pytest.mark.slow
def test_a_second_one_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    directory = str(tmp_path / "demo")

    with Program("demo", "--directory", directory, "--queues", "critical") as first:
        first.read_until("is user 1")
        with Program("demo", "--directory", directory) as second:
            assert second.wait() == 1
        first.interrupt()
        assert first.wait() == 130

    assert "A demo is already running in" in second.output


def test_a_folder_with_other_things_in_it_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with Program("demo", "--directory", str(tmp_path)) as demo:
        assert demo.wait() == 1

    assert "Not a folder of an earlier demo" in demo.output
    assert (tmp_path / "thesis.txt").exists()
