from __future__ import annotations

import pytest

from tests.support.wait import wait_for


def test_returns_the_first_true_value() -> None:
    values = iter([0, "", None, 3, 4])
    assert wait_for(lambda: next(values), interval=0) == 3


def test_says_what_was_not_there() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.15 s: lag 7"):
        wait_for(lambda: False, 0.05, lambda: "lag 7")


def test_an_ignored_error_is_the_cause() -> None:
    with pytest.raises(AssertionError) as raised:
        wait_for(lambda: 1 // 0, 0.05, ignore=(ZeroDivisionError,))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_another_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 // 0)
