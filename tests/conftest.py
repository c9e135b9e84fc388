"""Fixtures of all tests; see tests/support/."""

from tests.support.fixtures import (  # noqa: F401 - pytest finds fixtures and hooks by their names here
    fault_proxy,
    free_port,
    postgres,
    pytest_report_header,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    redis_server,
)
