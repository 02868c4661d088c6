"""
The settings of Jiki. Everything that differs between machines comes from the environment; docs/reference.md lists it.

Nothing below asks "is this production?": DEBUG is off by default; with DEBUG, the defaults are for local development.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import environ
from django.core.exceptions import ImproperlyConfigured
from pythonjsonlogger.core import RESERVED_ATTRS

from config import queues
from jobs.broker import embedded

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = BASE_DIR / "var"

env = environ.Env()  # type: ignore[no-untyped-call]

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="only-for-development" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set. For development type: DEBUG=1 python manage.py ...")
SITE_URL = env.str("SITE_URL", default="http://localhost:8000" if DEBUG else "https://jiki.io")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO" if DEBUG else "WARNING")
LOG_FORMAT = env.str("LOG_FORMAT", default="plain")
if LOG_FORMAT not in {"plain", "json"}:
    raise ImproperlyConfigured(f"LOG_FORMAT={LOG_FORMAT!r} is unknown. Use plain or json.")

_site = urlsplit(SITE_URL)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[_site.hostname])
if DEBUG:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"]
    VAR.mkdir(exist_ok=True)

INSTALLED_APPS = [
    "jiki",
    "users",
    "mailers",
    "jobs",  # before django_rq: both have an rqworker command, and the first one listed wins
    "django_rq",
    "django_htmx",
    *(["django_tasks"] if django.VERSION < (6, 0) else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "jobs.health.HealthMiddleware",  # first: probes use neither the host name nor TLS
    "config.requests.RequestBoundsMiddleware",
    "config.headers.HeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION < (6, 0)
    else "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- data ------------------------------------------------------------------------------------

DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR / 'jiki.sqlite3'}")
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Writers wait instead of failing with "database is locked": readers never wait (WAL); a transaction takes its
    # lock when it begins, and waits up to 20 s for it.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
if not DATABASES["default"].get("OPTIONS", {}).get("pool"):  # Django's pool keeps its connections itself
    # Opening a connection takes longer than most requests and jobs. DATABASE_URL may override this: ?conn_max_age=0.
    DATABASES["default"].setdefault("CONN_MAX_AGE", 600)  # seconds
    DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default=embedded.url(VAR) if DEBUG else "")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},  # seconds; a page must not hang with Redis
    }
}

# --- jobs ------------------------------------------------------------------------------------

TASKS = {"default": {"BACKEND": "jobs.backends.RQBackend"}}
RQ_QUEUES = queues.rq_queues(REDIS_URL, env.dict("REDIS_URLS", default={}))
RQ = {
    "JOB_CLASS": "jobs.job.MandateJob",
    "SCHEDULER_CLASS": "jobs.scheduler.Scheduler",
    "COMMIT_MODE": "on_db_commit",
}
RQ_SHOW_ADMIN_LINK = False
JOBS = {
    "QUEUES": queues.QUEUES,
    "SCHEDULE": "config.schedule.SCHEDULE",
    "OUTBOX": "default",
    "VERSION": env.str("VERSION", default=""),
    "API_TOKENS": env.list("API_TOKENS", default=[]),
}

# --- submissions -----------------------------------------------------------------------------

SUBMISSION_SANDBOX = env.str("SUBMISSION_SANDBOX", default="any" if DEBUG else "confined")
if SUBMISSION_SANDBOX not in {"confined", "any", "watched"}:
    raise ImproperlyConfigured(f"SUBMISSION_SANDBOX={SUBMISSION_SANDBOX!r} is unknown. Use confined, any or watched.")
SUBMISSION_LIMITS: dict[str, Any] = {}  # jiki.sandbox.Limits has the defaults

# --- users and mail --------------------------------------------------------------------------

AUTH_USER_MODEL = "users.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "users:login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"

_email = env.email_url("EMAIL_URL", default=f"filemail:///{VAR / 'mail'}" if DEBUG else "smtp://localhost:25")
_email["EMAIL_TIMEOUT"] = 10  # seconds; the mail is sent in a transaction
if django.VERSION < (6, 1):
    vars().update(_email)
else:
    # The name of each option in MAILERS, for the backends that support it.
    _options = {"EMAIL_FILE_PATH": "file_path"}
    if _email["EMAIL_BACKEND"].endswith("smtp.EmailBackend"):
        _options = {
            "EMAIL_HOST": "host",
            "EMAIL_PORT": "port",
            "EMAIL_HOST_USER": "username",
            "EMAIL_HOST_PASSWORD": "password",
            "EMAIL_USE_TLS": "use_tls",
            "EMAIL_USE_SSL": "use_ssl",
            "EMAIL_TIMEOUT": "timeout",
        }
    MAILERS = {
        "default": {
            "BACKEND": _email["EMAIL_BACKEND"],
            "OPTIONS": {_options[name]: value for name, value in _email.items() if name in _options and value},
        }
    }
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Jiki <hello@jiki.io>")

EXERCISES_API_URL = env.str("EXERCISES_API_URL", default="")  # the service with the texts of exercises; "": none
EXERCISES_API_TOKEN = env.str("EXERCISES_API_TOKEN", default="")
if EXERCISES_API_URL and not EXERCISES_API_URL.startswith(("https://", "http://")):
    raise ImproperlyConfigured(f"EXERCISES_API_URL={EXERCISES_API_URL!r} is not a URL. Use https://host/path.")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

FILE_UPLOAD_HANDLERS = ["config.requests.NoFiles"]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
if not DEBUG:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }

# --- security---------------------------------------------------------------------------------

# Scripts and styles come only from our own files, and no site may frame ours: injected markup runs nothing.
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],  # the admin's stylesheets contain images
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
CSRF_TRUSTED_ORIGINS = [f"{_site.scheme}://{_site.netloc}"]
if _site.scheme == "https" and not DEBUG:
    SECURE_SSL_REDIRECT = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
if env.bool("BEHIND_PROXY", default=False):
    # Only for a proxy that sets this header itself and drops the client's.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    RATELIMIT_IP_META_KEY = "users.throttle.proxied_address"  # otherwise all clients share the limits of the proxy
else:
    RATELIMIT_IP_META_KEY = "users.throttle.direct_address"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "jobs.logs.JobFilter"}},
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s%(job)s"},
        "json": {
            "()": "config.logs.BoundedJsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s %(job_id)s %(command)s %(queue)s %(attempt)s",
            "reserved_attrs": [*RESERVED_ATTRS, "job"],
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["job"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
