"""Logging: one line per event, as JSON or for a console, and never a secret in it.

    log = structlog.get_logger(__name__)
    log.info("instance.registered", instance="r-7k2m9q4x", account="acc-…")

Django's and the libraries' records go through the same processors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"passw|secret|token|credential|authorization|cookie|api_?key|private_?key|masterauth", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^:/?#\s@]*):[^@/\s]+@", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"(?i)\b((?:[a-z_]*password|masterauth|requirepass|secret_?key)['\"]?\s*[=: ]\s*)(['\"]?)[^\s,'\"&)}]+\2"
)
# Paths that open something without a login: links in messages, calendar feeds.
_SECRET_PATH = re.compile(r"(/(?:link|feed)/)[A-Za-z0-9_.%-]{8,}")


def redact(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: values under secret names, passwords in URLs and `password=…` become `[redacted]`."""
    return {key: _clean(key, value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """The text without passwords in URLs and assignments, and without the secret part of a path."""
    text = _SECRET_PATH.sub(rf"\1{REDACTED}", text)
    return _ASSIGNMENT.sub(rf"\1{REDACTED}", _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text))


def _clean(key: str, value: Any) -> Any:
    if not key.startswith("_") and _SECRET_NAME.search(key):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: _clean(str(name), part) for name, part in value.items()}
    if isinstance(value, (list, tuple)) and not key.startswith("_"):
        return [_clean("", part) for part in value]
    return value


def _drop_request(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # Django attaches the whole request to its records; a line of log has no place for it.
    event.pop("request", None)
    event.pop("server_time", None)
    return event


SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    _drop_request,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configuration(format: str, level: str) -> dict[str, Any]:
    """Configures structlog, and returns the LOGGING setting. `format` is `json` or `console`."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: list[structlog.typing.Processor] = (
        # A traceback becomes one field of the line, and is redacted like every other text.
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)]
        if format == "json"
        else [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=False)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django's own handlers would write each record a second time, in their own form.
            "django": {"handlers": [], "propagate": True, "level": "INFO" if level == "DEBUG" else level},
            "django.server": {"handlers": [], "propagate": True, "level": "WARNING"},
            "django-q": {"handlers": [], "propagate": True, "level": level},
        },
    }
