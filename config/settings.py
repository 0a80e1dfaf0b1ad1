"""Settings, read top to bottom. The only reader of the environment.

Every value has a safe default for one machine; `.env.example` lists them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ

from config.secrets import generated_secret

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# --- Where things are -------------------------------------------------------------------

DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
"""All local state: database, broker folder, files, logs, generated secrets."""
DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)

DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# --- Secrets ----------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY", default="") or generated_secret(DATA_DIR / "secret_key")
FIELD_ENCRYPTION_KEYS = env.list("FIELD_ENCRYPTION_KEYS", default=[]) or [
    generated_secret(DATA_DIR / "field_encryption_key", fernet=True)
]
"""Fernet keys, newest first: the first encrypts, all decrypt."""

READ_ENVIRONMENT = env.ENVIRON.get
"""How a connection's key that says `env:NAME` is read."""

AZURE_OPENAI_ENDPOINT = env.str("AZURE_OPENAI_ENDPOINT", default="")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="")
"""With AZURE_OPENAI_API_KEY or OPENAI_API_KEY: the connection a fresh database starts with."""

# --- Database ---------------------------------------------------------------------------

DATABASE_URL = env.str("DATABASE_URL", default="")
if DATABASE_URL:
    DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(DATABASE_URL)}
    DATABASES["default"].update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    if DATABASES["default"]["ENGINE"].endswith("postgresql"):
        # A server that has vanished is noticed within half a minute, not after two hours.
        DATABASES["default"]["OPTIONS"] = {
            "connect_timeout": 10,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # The server keeps the plans of queries that come again and again.
            "prepare_threshold": 5,
        } | DATABASES["default"].get("OPTIONS", {})
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "db.sqlite3",
            "CONN_MAX_AGE": None,
            # Measured: with stock settings a quarter of concurrent writes fail as
            # "database is locked"; with these none does.
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                    "PRAGMA journal_size_limit=27103364; PRAGMA cache_size=-20000;"
                ),
            },
            "TEST": {"NAME": str(DATA_DIR / "test.sqlite3")},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Queue ------------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="")
REDIS_PREFIX = env.str("REDIS_PREFIX", default="assistant_manager")
"""Names the queue: installations that share one Redis need one each."""
CELERY: dict[str, Any] = {
    "task_ignore_result": True,
    "task_acks_late": True,
    "task_default_queue": REDIS_PREFIX,
    "task_time_limit": None,
    "timezone": "UTC",
    "worker_pool": "threads",
    "worker_concurrency": 2,
    "worker_hijack_root_logger": False,
    "broker_connection_retry_on_startup": True,
    "beat_schedule_filename": str(DATA_DIR / "schedule"),
    "beat_schedule": {
        "sweep": {"task": "conversations.tasks.sweep", "schedule": 30.0},
    },
}
if REDIS_URL:
    CELERY["broker_url"] = REDIS_URL
    # A message taken by a worker that died comes back within seconds, not after an hour.
    CELERY["broker_transport_options"] = {
        "visibility_timeout": 60,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
else:
    _broker = DATA_DIR / "broker"
    CELERY["broker_url"] = "filesystem://localhost//"
    CELERY["broker_transport_options"] = {
        "data_folder_in": str(_broker / "messages"),
        "data_folder_out": str(_broker / "messages"),
        "control_folder": str(_broker / "control"),
        "store_processed": False,
        "polling_interval": 0.1,
    }
    for _folder in ("messages", "control"):
        (_broker / _folder).mkdir(parents=True, exist_ok=True)

# --- Engines and the driver -------------------------------------------------------------

ENGINES = {
    "assistants": "assistant_manager.engines.assistants.AssistantsEngine",
    "chat": "assistant_manager.engines.chat.ChatEngine",
    "embedded": "assistant_manager.engines.embedded.EmbeddedEngine",
    "responses": "assistant_manager.engines.responses.ResponsesEngine",
}
"""Dotted path by kind. A connection names a kind."""

DRIVER_LEASE_SECONDS = env.float("DRIVER_LEASE_SECONDS", default=10.0)
"""How long a driver's claim on a run lasts without renewal; renewed three times in that span."""
DRIVER_CAPACITY = env.int("DRIVER_CAPACITY", default=2000)
"""Runs one worker process looks after at once."""
ADOPTION_SECONDS = env.float("ADOPTION_SECONDS", default=90.0)
"""How long a start whose reply was lost may still be found by the upstream's webhook."""
RUN_LIFETIME_SECONDS = env.int("RUN_LIFETIME_SECONDS", default=600)
"""`expires_at - created_at` of a run; ten minutes at the vendor."""
REVIEW_LIFETIME_SECONDS = env.int("REVIEW_LIFETIME_SECONDS", default=7 * 24 * 3600)
"""How long a held answer may wait for a person before its run expires."""

SANDBOX_TIER = env.str("SANDBOX_TIER", default="auto")
"""auto, bubblewrap, landlock or none. There is no unsafe choice."""
SANDBOX_DIR = DATA_DIR / "sandbox"
SANDBOX_MAX_KERNELS = env.int("SANDBOX_MAX_KERNELS", default=4)

# --- The web server ---------------------------------------------------------------------

WEB_THREADS = env.int("WEB_THREADS", default=8)
"""Requests one web process answers at once. No faster than four, but a few that wait for a lock or
a slow upload stop nobody. Streams hold none."""

# --- The vendor-compatible doors --------------------------------------------------------

AZURE_DEFAULT_API_VERSION = env.str("AZURE_DEFAULT_API_VERSION", default="2024-05-01-preview")
"""Used where a request under /openai names none; empty makes such a request a 404, as at the vendor."""
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", default=512 * 1024 * 1024)
BODY_MAX_BYTES = env.int("BODY_MAX_BYTES", default=32 * 1024 * 1024)
POLL_AFTER_MS = env.int("POLL_AFTER_MS", default=500)
"""Sent as `openai-poll-after-ms` on unfinished runs; the SDKs' poll helpers obey it."""
DATA_UPLOAD_MAX_MEMORY_SIZE = BODY_MAX_BYTES
MEDIA_ROOT = DATA_DIR / "files"
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700

# --- Django -----------------------------------------------------------------------------

INSTALLED_APPS = [
    # Before the admin, so that their templates are found before the stock ones.
    "assistant_manager",
    "conversations",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_htmx",
    "simple_history",
    "csp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    # Answers programs by itself; what follows is for people.
    "assistant_manager.openai_api.middleware.CompatibleDoors",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
RSGI_APPLICATION = "config.rsgi:application"
APPEND_SLASH = False
"""A redirect turns an SDK's POST into a GET; the admin adds its own slashes."""

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

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
WHITENOISE_USE_FINDERS = True
"""No collectstatic is needed on one machine."""

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
}

# --- Security ---------------------------------------------------------------------------

HTTPS = env.bool("HTTPS", default=False)
"""True where the site is served over TLS: secure cookies, HSTS. Never a redirect on the API."""
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SILENCED_SYSTEM_CHECKS = ["security.W008"]
"""W008 asks for a redirect to HTTPS: that turns an SDK's POST into a GET, key included in clear."""
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    # A refused call is the caller's affair and is in the access log already.
    "loggers": {"django.request": {"level": "ERROR"}}
    # A line for each look at each run would bury all others.
    | {name: {"level": "WARNING"} for name in ("httpx2", "openai", "azure")},
}
