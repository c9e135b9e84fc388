"""What the migrations add to the overview and to the page of an instance."""

from __future__ import annotations

from django.db.models import Case, Q, Value, When
from django.template.loader import render_to_string

from migrations_app.choices import ACTIVE
from migrations_app.models import MigrationTask, TaskQuerySet
from migrations_app.present import TaskView
from migrations_app.services import sharing
from portal.htmx import HtmxHttpRequest
from portal.models import Account, Instance

ROWS = 6


def home_panel(request: HtmxHttpRequest) -> str:
    """Running tasks first, then the newest."""
    context = {
        "rows": _views(MigrationTask.objects.visible_to(request.user)),
        "can_create": Account.objects.operated_by(request.user).exists(),
    }
    return render_to_string("migrations_app/_home_panel.html", context, request)


def instance_panel(request: HtmxHttpRequest, instance: Instance) -> str:
    tasks = MigrationTask.objects.visible_to(request.user).filter(Q(source=instance) | Q(target=instance))
    can_operate = Account.objects.operated_by(request.user).filter(pk=instance.account_id).exists()
    context = {"rows": _views(tasks), "instance": instance, "can_operate": can_operate}
    context["shared"] = list(
        sharing.shared_with(request.user)
        .filter(Q(source=instance) | Q(target=instance))
        .select_related("account")
        .order_by("-pk")[:ROWS]
    )
    return render_to_string("migrations_app/_instance_panel.html", context, request)


def _views(tasks: TaskQuerySet) -> list[TaskView]:
    running_first = Case(When(status__in=ACTIVE, then=Value(0)), default=Value(1))
    rows = tasks.select_related("source", "target", "link__progress").order_by(
        running_first, "-created_at", "-pk"
    )
    return [TaskView(task) for task in rows[:ROWS]]
