"""The settings of another project, of the kind that PROJECT names. Nothing of Jiki is in them."""

import os
from typing import Any

import django
import environ

from tests import environment
from tests.foreign import KINDS

environment.prepare()

KIND = os.environ["PROJECT"]
if KIND not in KINDS:
    raise ValueError(f"No such kind of project: PROJECT={KIND}. There are {', '.join(KINDS)}.")

SECRET_KEY = "only-for-tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.foreign.urls"
TIME_ZONE = "Europe/Berlin"
USE_TZ = KIND != "naive"
STATIC_URL = "static/"
SILENCED_SYSTEM_CHECKS = ["admin.W411"] if KIND == "own_user" else []  # it wants the processor of requests
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

_own = {
    "own_site": ["django.contrib.admin.apps.SimpleAdminConfig"],
    "own_user": ["tests.foreign.people", "django.contrib.admin"],
}
INSTALLED_APPS = ["jobs", "django_rq", *(["django_tasks"] if django.VERSION < (6, 0) else []), "tests.foreign.shop"]
MIDDLEWARE = ["jobs.health.HealthMiddleware"]
if KIND != "engine":
    INSTALLED_APPS += _own.get(KIND, ["django.contrib.admin"])
    INSTALLED_APPS += [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ]
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
if KIND == "login_required":
    MIDDLEWARE += ["django.contrib.auth.middleware.LoginRequiredMiddleware"]
    LOGIN_URL = "admin:login"
if KIND == "manual_commit":
    MIDDLEWARE.insert(1, "tests.foreign.middleware.commit")
if KIND == "own_user":
    AUTH_USER_MODEL = "people.Person"
if KIND == "prefix":
    FORCE_SCRIPT_NAME = "/below"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                *(["django.template.context_processors.request"] if KIND != "own_user" else []),
                *(
                    [
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                    if KIND != "engine"
                    else []
                ),
            ]
        },
    }
]

DATABASES: dict[str, dict[str, Any]] = {"default": environ.Env().db_url("DATABASE_URL")}  # type: ignore[no-untyped-call]
DATABASES["default"]["CONN_MAX_AGE"] = 60  # seconds
if environment.database() == "sqlite":
    DATABASES["default"]["TEST"] = {"NAME": str(environment.folder() / "test.sqlite3")}
    DATABASES["default"]["OPTIONS"] = {"timeout": 20}
if KIND == "manual_commit":
    DATABASES["default"]["AUTOCOMMIT"] = False
if KIND == "login_required":
    DATABASES["default"]["ENGINE"] = "tests.foreign.tenants"
    DATABASES["blue"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}
    DATABASE_ROUTERS = ["tests.foreign.tenants.Router"]

_queues = {"engine": ["mail"], "naive": [*"abcdefghijk", "mail"]}.get(KIND, ["default", "mail"])
RQ_QUEUES = {name: {"URL": os.environ["REDIS_URL"], "SERIALIZER": "rq.serializers.JSONSerializer"} for name in _queues}
RQ = {"JOB_CLASS": "jobs.job.MandateJob", "SCHEDULER_CLASS": "jobs.scheduler.Scheduler", "COMMIT_MODE": "on_db_commit"}
JOBS = {"SCHEDULE": "tests.foreign.shop.schedule.ENTRIES", "API_TOKENS": ["right"]}
TASKS = {"default": {"BACKEND": "jobs.backends.RQBackend"}}
