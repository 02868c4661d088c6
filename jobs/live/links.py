"""Links that show how far one job is: neither its arguments, nor its result, nor its errors, and no other job."""

from typing import Any, NamedTuple

from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404
from django.urls import NoReverseMatch, reverse

from jobs import conf
from jobs.broker.connections import get_connection
from jobs.job import MandateJob

_SALT = "jobs.live"


class Link(NamedTuple):
    """What a link shows. `refreshes`: whether the page is loaded anew when the job has ended."""

    job_id: str
    queue: str
    refreshes: bool

    @property
    def token(self) -> str:
        return signing.dumps(list(self), salt=_SALT)

    @property
    def job(self) -> MandateJob:
        """The job, unread."""
        job = MandateJob(self.job_id, connection=get_connection(self.queue))
        job.origin = self.queue
        return job

    def url(self, name: str) -> str:
        """Return the address of a view. Raises ImproperlyConfigured if the project has not included them."""
        try:
            return reverse(name, args=[self.token])
        except NoReverseMatch as error:
            raise ImproperlyConfigured(
                "{% job_progress %} needs its views. Add to ROOT_URLCONF: path('jobs/', include('jobs.live.urls'))."
            ) from error


def read(token: str) -> Link:
    """Return what a link shows. Raises Http404 if we did not sign it, or if its queue no longer exists."""
    try:
        values: Any = signing.loads(token, salt=_SALT)
        link = Link(*values)
    except (signing.BadSignature, TypeError, ValueError):
        raise Http404("No such link.") from None
    if not conf.is_queue(link.queue):
        raise Http404(f"No queue {link.queue!r}.")
    return link
