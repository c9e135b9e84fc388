"""See https://docs.djangoproject.com/en/5.2/topics/i18n/formatting/#creating-custom-format-files; what is not said here stays Django's."""

from __future__ import annotations

from typing import Final

DATE_FORMAT: Final = "Y-m-d"
SHORT_DATE_FORMAT: Final = "Y-m-d"
TIME_FORMAT: Final = "H:i"
DATETIME_FORMAT: Final = "Y-m-d H:i"
SHORT_DATETIME_FORMAT: Final = "Y-m-d H:i"
FIRST_DAY_OF_WEEK: Final = 1
