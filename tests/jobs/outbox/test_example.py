"""The money transfer of docs/howto/exactly-once.md, as it stands there."""

import re
from pathlib import Path

import pytest

from tests.sample.commands import notes
from tests.sample.models import Account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_commands")]

PAGE = Path(__file__).resolve().parents[3] / "docs/howto/exactly-once.md"


@pytest.fixture
def transfer():
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"__name__": notes.__name__, "Account": Account}
    exec(text, names)  # noqa: S102
    return names["Transfer"]


def balances():
    return list(Account.objects.order_by("pk").values_list("balance", flat=True))


def test_a_transfer_whose_worker_dies_after_the_commit_is_made_once(transfer, worker, die_after_commit):
    payer, payee = Account.objects.create(balance=100), Account.objects.create()
    job = transfer.defer(payer, payee, 30)
    die_after_commit()
    assert (job.state, balances()) == ("queued", [70, 30])
    worker.run()
    assert (job.state, job.return_value(), balances()) == ("finished", 70, [70, 30])


def test_one_without_the_money_moves_nothing(transfer, worker):
    payer, payee = Account.objects.create(balance=10), Account.objects.create()
    job = transfer.defer(payer, payee, 30)
    worker.run()
    assert (job.state, balances()) == ("retrying", [10, 0])
    Account.objects.filter(pk=payer.pk).update(balance=50)
    worker.hurry().run()
    assert (job.state, balances()) == ("finished", [20, 30])
