"""Tasks of Django's own API."""

from jobs.direct import task
from tests.sample.models import Note


@task
def add(left: int, right: int = 1) -> int:
    return left + right


@task(queue_name="low")
def write(text: str) -> None:
    Note.objects.create(text=text)


@task(takes_context=True)
def tell_attempt(context) -> list:
    return [context.task_result.id, context.attempt]


@task
async def add_async(left: int, right: int) -> int:
    return left + right


@task
def fail(message: str) -> None:
    raise ValueError(message)


@task
def return_object() -> object:
    return object()


no_task = add.func
