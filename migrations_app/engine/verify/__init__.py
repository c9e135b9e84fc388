"""Comparison of two servers by value: `verify` reads both, a `VerifyReport` says what differs.

The rules of what is equal are in `compare.py`; `report.py` turns a report into text and JSON.
"""

from migrations_app.engine.verify.compare import DEFAULT_TTL_TOLERANCE_MS, verify
from migrations_app.engine.verify.model import Difference, Kind, VerifyProgress, VerifyReport
from migrations_app.engine.verify.settling import Follow

__all__ = [
    "DEFAULT_TTL_TOLERANCE_MS",
    "Difference",
    "Follow",
    "Kind",
    "VerifyProgress",
    "VerifyReport",
    "verify",
]
