"""The pages of the product."""

from datetime import timedelta
from typing import cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
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
from jiki.courses import Course
from jiki.forms import MAIN, SubmissionForm
from jiki.models import Exercise, Submission
from users import throttle
from users.models import User

SUBMISSION_RATE = "30/m"  # for each learner
SHOWN = 10  # submissions shown on an exercise's page
LOST_AFTER = timedelta(seconds=10)  # age from which an open submission's job is checked


class Home(TemplateView):
    """The start page."""

    template_name = "jiki/home.html"


@require_GET
def exercises(request: HttpRequest) -> HttpResponse:
    """All exercises, with their statistics and the learner's own results."""
    results = set(_own(request).values_list("exercise__slug", "state"))
    passed = {slug for slug, state in results if state == Submission.State.PASSED}
    shown = {"exercises": listing.exercises(), "passed": passed, "tried": {slug for slug, _ in results}}
    return render(request, "jiki/exercises.html", shown)


@require_GET
def course(request: HttpRequest, slug: str) -> HttpResponse:
    """A published course, with its lessons."""
    shown = get_object_or_404(Course.objects.prefetch_related("lessons"), slug=slug, published_at__isnull=False)
    return render(request, "jiki/course.html", {"course": shown})


@uploads.reads_its_own_body
@csrf_exempt  # the token is in the form, which is first parsed under our own limits; then `_submit` checks it
@require_http_methods(["GET", "HEAD", "POST"])
def exercise(request: HttpRequest, slug: str) -> HttpResponse:
    """One exercise, and the form to submit code for it."""
    if request.method == "POST" and not request.user.is_authenticated:
        uploads.drop(request)  # a stranger's body is never parsed
        return redirect_to_login(request.get_full_path())
    refused = uploads.read(request) if request.method == "POST" else ""
    try:
        exercise = Exercise.objects.get(slug=slug)
    except Exercise.DoesNotExist:
        return render(request, "jiki/no_exercise.html", {"slug": slug}, status=404)
    if refused:
        form = SubmissionForm({"code": request.POST.get("code", _initial_code(request, exercise))})
        form.add_error(None, refused)
        return _exercise(request, exercise, form, status=413)
    if request.method == "POST":
        return _submit(request, exercise)
    return _exercise(request, exercise, SubmissionForm(initial={"code": _initial_code(request, exercise)}))


@csrf_protect
def _submit(request: HttpRequest, exercise: Exercise) -> HttpResponse:
    form = SubmissionForm(request.POST, request.FILES)
    if not form.is_valid():
        return _exercise(request, exercise, form, status=422)
    if wait := throttle.seconds_to_wait(request, "submission", SUBMISSION_RATE, key="user"):
        form.add_error(None, f"Too many submissions within a minute. Please submit it again in {wait} seconds.")
        return _exercise(request, exercise, form, status=429)
    return redirect(SubmitCode.run(cast(User, request.user), exercise, form.cleaned_data["sources"]))


def _exercise(request: HttpRequest, exercise: Exercise, form: SubmissionForm, status: int = 200) -> HttpResponse:
    own = _own(request).filter(exercise=exercise)[:SHOWN]
    return render(
        request, "jiki/exercise.html", {"exercise": exercise, "form": form, "submissions": own}, status=status
    )


def _initial_code(request: HttpRequest, exercise: Exercise) -> str:
    """Return the initial code of the form: the learner's last code, or the starter."""
    last = _own(request).filter(exercise=exercise).first()
    if last is None or "starter" in request.GET:
        return exercise.starter
    return last.sources().get(MAIN, exercise.starter)


@require_GET
@never_cache
@login_required
def submission(request: HttpRequest, pk: int) -> HttpResponse:
    """One of the learner's submissions, with the results of its checks; for htmx only the changing part."""
    submission = get_object_or_404(_own(request).select_related("exercise"), pk=pk)
    age = timezone.now() - submission.created_at
    if submission.is_open and age > LOST_AFTER and lost.why(submission.job_id):
        submission.give_up()
        submission.refresh_from_db()
    part = getattr(request, "htmx", False)
    # Refresh fast while the result may come at any moment, and less often later.
    delay = "100ms" if age < timedelta(seconds=2) else "500ms" if age < LOST_AFTER else "2s"
    page = render(
        request,
        "jiki/_submission.html" if part else "jiki/submission.html",
        {"submission": submission, "delay": delay},
    )
    patch_vary_headers(page, ["HX-Request"])
    return page


def _own(request: HttpRequest) -> QuerySet[Submission]:
    """Return the learner's submissions; none without a login."""
    user = request.user
    return Submission.objects.filter(user=user) if user.is_authenticated else Submission.objects.none()
