"""Settings, all from the environment. Each name also takes `NAME_FILE`, the path of a file with the value (portal/env.py).

Safe by default: without any setting but SECRET_KEY and CREDENTIAL_KEYS the console runs with DEBUG off,
answers to localhost only and insists on TLS. `manage.py check --deploy` says what is missing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from portal import env, logs, qcluster

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.data_dir()

# --- Keys -------------------------------------------------------------------------------------------------------------

SECRET_KEY = env.text("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. It signs sessions and background jobs; set SECRET_KEY (or SECRET_KEY_FILE) to a long random "
        "value, the same for every process. `python manage.py generate_keys` prints one."
    )
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
CREDENTIAL_KEYS = env.words(
    "CREDENTIAL_KEYS"
)  # Fernet keys: the first encrypts, all decrypt (portal/keys.py)

# --- Web --------------------------------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", False)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"

# Off only where nothing but the machine itself can connect: `make demo` on 127.0.0.1, and development.
SECURE_SSL = env.flag("SECURE_SSL", not DEBUG)
SECURE_SSL_REDIRECT = SECURE_SSL
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # health checks come over plain HTTP from beside the server
SESSION_COOKIE_SECURE = SECURE_SSL
CSRF_COOKIE_SECURE = SECURE_SSL
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 31_536_000) if SECURE_SSL else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_SSL
SECURE_HSTS_PRELOAD = SECURE_SSL
if env.flag("TRUST_PROXY_TLS", False):
    # Only behind a proxy that sets this header itself: a client could otherwise claim to have come over TLS.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Likewise of X-Forwarded-For, whose last address is taken as the client's: of limits per address, and in the audit of links.
TRUST_PROXY_ADDRESS = env.flag("TRUST_PROXY_ADDRESS", False)
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env.number("SESSION_HOURS", 12) * 3600
SESSION_COOKIE_NAME = "switchyard_session"
CSRF_COOKIE_NAME = "switchyard_csrf"
CSRF_FAILURE_VIEW = "portal.views.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

INSTALLED_APPS = [
    "portal",
    "django_q",  # before the app whose admin takes a page of its away
    "events",
    "migrations_app",
    "django_htmx",
    "bootstrap",  # the static files of django-bootstrap-static
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "portal.static_files.StaticFiles",
    "portal.middleware.content_security_policy",
    "portal.middleware.request_log",
    "portal.middleware.no_nul",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.LoginRequired",  # a page is closed unless it says otherwise
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "portal.middleware.reader_time_zone",
    "portal.middleware.ServiceErrors",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context_processors.console",
            ],
            "builtins": ["portal.templatetags.portal"],
        },
    }
]

# --- Database ---------------------------------------------------------------------------------------------------------

DATABASES = {
    "default": dj_database_url.parse(
        env.text("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'switchyard.sqlite3'}",
        conn_max_age=env.number("DATABASE_CONN_MAX_AGE", 60),
        conn_health_checks=True,
    )
}
if not env.text("DATABASE_URL"):
    # So that the first command of a new site, `migrate`, finds the place of its database. Where that cannot be made, the
    # check portal.E003 says what to do.
    with contextlib.suppress(OSError):
        DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Several processes write. IMMEDIATE takes the write lock when a transaction begins, where waiting for
        # it works; the upgrade of a read lock in the middle fails at once with "database is locked", whatever
        # the time-out.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Fleet ------------------------------------------------------------------------------------------------------------

# Seconds to connect to an instance, and to wait for each of its replies.
INSTANCE_TIMEOUT = env.number("INSTANCE_TIMEOUT", 5)
# Public addresses are refused unless they lie in one of these networks (CIDR); private ones and loopback are
# served.
ALLOWED_NETWORKS = env.words("ALLOWED_NETWORKS")

# --- Snapshot files ---------------------------------------------------------------------------------------------------

# Where uploaded snapshots are kept. The workers must find them at the same path: the same machine, or a shared folder.
UPLOADS = DATA_DIR / "uploads"
SNAPSHOT_UPLOAD_LIMIT = env.number("SNAPSHOT_UPLOAD_LIMIT", 64 * 2**30)  # bytes
SNAPSHOT_UPLOAD_DAYS = env.number("SNAPSHOT_UPLOAD_DAYS", 7)  # after which one that no task uses is deleted
# People may name files below this folder of the workers; empty: uploads only.
SNAPSHOT_FOLDER = env.text("SNAPSHOT_FOLDER")
FILE_UPLOAD_HANDLERS = ["portal.uploads.SnapshotUpload"]

# --- Background work --------------------------------------------------------------------------------------------------

Q_CLUSTER = qcluster.Q_CLUSTER  # portal/qcluster.py
# Where a link keeps what its source sends while the target does not keep up (empty: the system's folder for such files), and
# how much of it each link may keep; 0 switches that off.
SPOOL_FOLDER = env.text("SPOOL_FOLDER")
SPOOL_LIMIT_MB = env.number("SPOOL_LIMIT_MB", 4096)

# --- People -----------------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "UTC")  # of people who have not chosen one
LANGUAGE_CODE = "en"
USE_I18N = True
USE_THOUSAND_SEPARATOR = True
FORMAT_MODULE_PATH = "portal.formats"

# --- Mail -------------------------------------------------------------------------------------------------------------

EMAIL_BACKEND = env.text("EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
EMAIL_FILE_PATH = env.text("EMAIL_FILE_PATH") or None
EMAIL_HOST = env.text("EMAIL_HOST", "localhost")
EMAIL_PORT = env.number("EMAIL_PORT", 25)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = env.flag("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = env.number("EMAIL_TIMEOUT", 10)
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Switchyard <switchyard@localhost>")
SERVER_EMAIL = env.text("SERVER_EMAIL", DEFAULT_FROM_EMAIL)

# Of links in messages, which leave the console: scheme, host and port as people open it.
SITE_URL = env.text("SITE_URL", "http://localhost:8000")

# Before the first reminder of an alert that lasts; each further pause is twice as long, up to a day.
ALERT_REMINDER_MINUTES = env.number("ALERT_REMINDER_MINUTES", 60)

# --- O&M events ------------------------------------------------------------------------------------------------------

# Hours before a switchover at which contacts are reminded of it.
EVENT_REMINDER_HOURS = env.numbers("EVENT_REMINDER_HOURS", "72,24,1")
# Minutes until the next contact is told of an urgent event that nobody has seen.
EVENT_ESCALATION_MINUTES = env.number("EVENT_ESCALATION_MINUTES", 15)
# How late an event may begin (after an outage of the console, for example) where its instance has no maintenance window.
EVENT_LATE_MINUTES = env.number("EVENT_LATE_MINUTES", 60)

# --- Static files -----------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("STATIC_ROOT") or DATA_DIR / "static")
# After `collectstatic`, files have their hash in the name and are cached for ever. Without it (development,
# tests) they are served from where they are: slower, never stale.
COLLECTED = not DEBUG and (STATIC_ROOT / "staticfiles.json").is_file()
WHITENOISE_USE_FINDERS = not COLLECTED
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "portal.static_files.HashedStorage"},
}
MEDIA_ROOT = DATA_DIR / "media"

# --- Logs -------------------------------------------------------------------------------------------------------------

LOG_FORMAT = env.one_of("LOG_FORMAT", ("json", "console"), "console" if DEBUG else "json")
LOG_LEVEL = env.one_of("LOG_LEVEL", ("debug", "info", "warning", "error"), "info").upper()
LOGGING = logs.configuration(LOG_FORMAT, LOG_LEVEL)
