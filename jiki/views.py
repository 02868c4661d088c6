"""The pages of the product."""

from datetime import timedelta
from typing import cast

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods
from django.views.generic import TemplateView

from jiki import listing, lost, uploads
from jiki.commands.submit_code import SubmitCode
from jiki.forms import MAIN, SubmissionForm
from jiki.models import Exercise, Submission
from users import throttle
from users.models import User

SUBMISSION_RATE = "30/m"  # a learner
SHOWN = 10  # submissions of a learner on an exercise's page
LOST_AFTER = timedelta(seconds=10)  # that a submission waits, before one looks whether its job still exists


class Home(TemplateView):
    """What Jiki is, and the way in."""

    template_name = "jiki/home.html"


@require_GET
def exercises(request: HttpRequest) -> HttpResponse:
    """All exercises, with how learners get on with them, and what this one has done of them."""
    known = set(_own(request).values_list("exercise__slug", "state"))
    passed = {slug for slug, state in known if state == Submission.State.PASSED}
    shown = {"exercises": listing.exercises(), "passed": passed, "tried": {slug for slug, _ in known}}
    return render(request, "jiki/exercises.html", shown)


@csrf_exempt  # the token is in the form, which is parsed under our own limits first; then `_submit` looks at it
@require_http_methods(["GET", "HEAD", "POST"])
def exercise(request: HttpRequest, slug: str) -> HttpResponse:
    """One exercise, and the form to submit code for it."""
    refused = uploads.read(request) if request.method == "POST" else ""
    try:
        found = Exercise.objects.get(slug=slug)
    except Exercise.DoesNotExist:
        return render(request, "jiki/no_exercise.html", {"slug": slug}, status=404)
    if refused and request.user.is_authenticated:
        form = SubmissionForm({"code": request.POST.get("code", _beginning(request, found))})
        form.add_error(None, refused)
        return _exercise(request, found, form, status=413)
    if request.method == "POST":
        return _submit(request, found)
    return _exercise(request, found, SubmissionForm(initial={"code": _beginning(request, found)}))


@login_required
@csrf_protect
def _submit(request: HttpRequest, exercise: Exercise) -> HttpResponse:
    form = SubmissionForm(request.POST, request.FILES)
    if not form.is_valid():
        return _exercise(request, exercise, form, status=422)
    if wait := throttle.seconds_to_wait(request, "submission", SUBMISSION_RATE, key="user"):
        form.add_error(None, f"That was a lot at once. Please submit it again in {wait} seconds.")
        return _exercise(request, exercise, form, status=429)
    return redirect(SubmitCode.run(cast(User, request.user), exercise, form.cleaned_data["sources"]))


def _exercise(request: HttpRequest, exercise: Exercise, form: SubmissionForm, status: int = 200) -> HttpResponse:
    own = _own(request).filter(exercise=exercise)[:SHOWN]
    return render(
        request, "jiki/exercise.html", {"exercise": exercise, "form": form, "submissions": own}, status=status
    )


def _beginning(request: HttpRequest, exercise: Exercise) -> str:
    """What the form begins with: the learner's last code, or the starter."""
    last = _own(request).filter(exercise=exercise).first()
    if last is None or "starter" in request.GET:
        return exercise.starter
    return last.sources().get(MAIN, exercise.starter)


@require_GET
@never_cache
@login_required
def submission(request: HttpRequest, pk: int) -> HttpResponse:
    """One submission of the learner's own, and what its checks said; the part that changes alone, when htmx asks."""
    found = get_object_or_404(_own(request).select_related("exercise"), pk=pk)
    age = timezone.now() - found.created_at
    if found.is_open and age > LOST_AFTER and lost.why(found.job_id):
        found.give_up()
        found.refresh_from_db()
    part = getattr(request, "htmx", False)
    # Seen at once while it may be a matter of moments; what takes longer need not be asked for so often.
    delay = "100ms" if age < timedelta(seconds=2) else "500ms" if age < LOST_AFTER else "2s"
    page = render(
        request,
        "jiki/_submission.html" if part else "jiki/submission.html",
        {"submission": found, "delay": delay},
    )
    patch_vary_headers(page, ["HX-Request"])
    return page


def _own(request: HttpRequest) -> QuerySet[Submission]:
    """The learner's submissions; none of somebody who is not logged in."""
    user = request.user
    return Submission.objects.filter(user=user) if user.is_authenticated else Submission.objects.none()
