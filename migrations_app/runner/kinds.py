"""Imports the modules that register the kinds of inspections."""

from migrations_app.runner import connectivity, correction, fence, rehearsal, repair, verification
from migrations_app.runner.precheck import run as precheck

__all__ = ["connectivity", "correction", "fence", "precheck", "rehearsal", "repair", "verification"]
