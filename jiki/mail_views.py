"""The page on which a learner ends her progress mails, by the link in one of them, so without a login."""

from django.core.signing import BadSignature
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from jiki.links import read_progress_token
from jiki.models import ProgressOptOut
from users.models import User


@csrf_exempt  # a mail program's button posts here (RFC 8058); the token authorizes it
@require_http_methods(["GET", "HEAD", "POST"])
def progress_mails(request: HttpRequest, token: str) -> HttpResponse:
    """
    A GET only asks, since programs that follow links must not end the mails. A POST ends them; a POST with `again`
    starts them again.
    """
    try:
        user = get_object_or_404(User, pk=read_progress_token(token))
    except BadSignature:
        return render(request, "404.html", status=404)
    if "again" in request.POST:
        ProgressOptOut.objects.filter(user=user).delete()
    elif request.method == "POST":
        ProgressOptOut.objects.get_or_create(user=user)
    is_over = ProgressOptOut.objects.filter(user=user).exists()
    return render(request, "jiki/progress_mails.html", {"is_over": is_over})
