from jobs.tasks import task
from tests.foreign.shop.models import Order


@task
def count(minimum: int) -> list[int]:
    return [minimum, Order.objects.count()]
