"""The page of metrics, for users with permission to view the dashboard and for token holders."""

from django.http import HttpRequest, HttpResponse
from redis.exceptions import RedisError

from jobs.dashboard.api import for_readers
from jobs.errors import JobsError, MissingExtraError


@for_readers
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics as text. They all come from Redis, so every web process answers the same."""
    try:
        from jobs.dashboard import prometheus

        return HttpResponse(prometheus.text(), content_type=prometheus.CONTENT_TYPE)
    except MissingExtraError as error:
        return HttpResponse(f"# {error}\n", content_type="text/plain", status=501)
    except (JobsError, RedisError) as error:
        return HttpResponse(f"# {error}\n", content_type="text/plain", status=503)
