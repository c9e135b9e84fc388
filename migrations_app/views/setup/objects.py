"""The second step: what is migrated and how. And the page on which the commands of a database are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from migrations_app import wire
from migrations_app.forms.commands import CommandsForm
from migrations_app.forms.objects import ObjectsForm
from migrations_app.models import MigrationTask
from migrations_app.services import prechecks, retry, tasks
from migrations_app.views.setup import shell
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest

KEY: Final = "objects"
TEMPLATE: Final = "migrations_app/setup_objects.html"
# Where a refusal of the service belongs, if its field is called otherwise here.
PLACES: Final = {"speed_hours": "hours_from_0"}


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """The commands of one database; `value` is what the page's button and address call it."""

    value: str
    label: str
    choice: wire.Choice


def is_done(task: MigrationTask) -> bool:
    """It has been left once, and nothing is missing: the defaults fit, but somebody has to have seen them."""
    visited = task.wizard_step in shell.KEYS[shell.KEYS.index(KEY) + 1 :]
    return visited and not any(one.step == KEY for one in tasks.missing(task))


@shell.step(KEY, done=is_done)
def objects(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """POST saves; the main button then begins the precheck, those of the commands go to their page."""
    form = ObjectsForm(request.POST if request.method == "POST" else None, task=task)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            wanted = request.POST.get("commands", "")
            try:
                following = KEY if wanted else shell.step_after(request, KEY)
                task = tasks.configure(request.user, task, **form.settings(), wizard_step=following)
            except ServiceError as error:
                refuse(form, error)
                status = error.status
            else:
                return _onward(request, task, wanted)
    return shell.page(request, task, KEY, TEMPLATE, _context(request, task, form), status=status)


def refuse(form: ObjectsForm, error: ServiceError) -> None:
    """Shows what the service said, at the field that it is about."""
    place = PLACES.get(error.field, error.field)
    form.add_error(place if place in form.fields else None, str(error))


def _onward(request: HtmxHttpRequest, task: MigrationTask, wanted: str) -> HttpResponse:
    if wanted:
        database = request.POST.get("commands_database", "") if wanted == "one" else wanted
        return redirect("task_setup_commands", task.public_id, database or "all")
    if shell.LEAVE not in request.POST and not prechecks.holds(task):
        try:
            tasks.precheck_task(request.user, task)
        except ServiceError as error:
            messages.error(request, f"The settings were saved. {error}")
    return shell.onward(request, task, KEY)


def _context(request: HtmxHttpRequest, task: MigrationTask, form: ObjectsForm) -> dict[str, Any]:
    choices = choice_rows(task)
    single = len(choices) - 1
    label = choices[0].choice.label
    if single:
        label += f", others for {single} database{'s' if single > 1 else ''}"
    return {
        "form": form,
        "choices": choices,
        "choices_label": label,
        "retry": retry_in_effect(request, task),
        "hours_errors": any(name.startswith("hours_") for name in form.errors),
    }


def retry_in_effect(request: HtmxHttpRequest, task: MigrationTask) -> dict[str, Any]:
    """`{"minutes", "setter"}`: the task that sets them, in words; "" if it is this one. That of others is not named."""
    minutes, setter = retry.effective_retry(task)
    if setter.pk == task.pk:
        return {"minutes": minutes, "setter": ""}
    seen = MigrationTask.objects.visible_to(request.user).filter(pk=setter.pk).exists()
    words = f"{setter.name} ({setter.public_id})" if seen else "a task of another account"
    return {"minutes": minutes, "setter": words}


def choice_rows(task: MigrationTask) -> list[ChoiceRow]:
    """The choice for all databases first, then those that have one of their own."""
    own = sorted((number for number in task.commands if number), key=int)
    everything = "All other databases" if own else "All databases"
    return [
        ChoiceRow("all", everything, wire.Choice.of(task.commands.get("", {}))),
        *(ChoiceRow(number, f"DB {number}", wire.Choice.of(task.commands[number])) for number in own),
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def task_setup_commands(request: HtmxHttpRequest, public_id: str, database: str) -> HttpResponse:
    """The commands of one database, or of "all" that have no choice of their own."""
    task = shell.opened(request, public_id, KEY)
    if isinstance(task, HttpResponse):
        return task
    if database != "all" and not (database.isdecimal() and len(database) < 6):
        raise Http404(f"no database {database}")
    number = "" if database == "all" else str(int(database))
    form = CommandsForm(request.POST if request.method == "POST" else None, task=task, database=number)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                notes = _save(request, task, number, form.choice())
            except ServiceError as error:
                form.add_error("words", str(error))
                status = error.status
            else:
                for note in notes:
                    messages.info(request, note)
                return redirect("task_setup", task.public_id, KEY)
    where = f"DB {number}" if number else "all databases"
    if not number and any(task.commands):
        where = "all other databases"
    context = {"task": task, "form": form, "where": where, "number": number}
    return render(request, "migrations_app/setup_commands.html", context, status=status)


def _save(
    request: HtmxHttpRequest, task: MigrationTask, number: str, choice: dict[str, list[str]]
) -> list[str]:
    """Stores the choice; what the person should know of what it covers."""
    notes = wire.Choice.of(choice).check()
    commands = {key: value for key, value in task.commands.items() if key != number}
    if choice:
        commands[number] = choice
    elif number and commands.get(""):
        commands[number] = {"without": []}  # all of them here, though the other databases have less
    tasks.configure(request.user, task, commands=commands)
    return notes
