"""`{% verification_section task can_operate %}`: what the page of a task shows of its verifications."""

from __future__ import annotations

from typing import Any

from django import template

from migrations_app.models import MigrationTask
from migrations_app.present_verification import VerificationView
from migrations_app.services import verifications

register = template.Library()

ROWS = 3


@register.inclusion_tag("migrations_app/_verification_section.html")
def verification_section(task: MigrationTask, can_operate: bool) -> dict[str, Any]:
    """One query, and those of the role checks where a side belongs to another account."""
    return {
        "task": task,
        "can_operate": can_operate,
        "rows": [VerificationView(row) for row in verifications.verifications(task)[:ROWS]],
        "why_not": verifications.why_not_verify(task),
    }
