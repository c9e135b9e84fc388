"""Imports the modules that register the kinds of inspections."""

from migrations_app.runner import connectivity

__all__ = ["connectivity"]
