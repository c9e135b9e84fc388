"""What the steps of the set-up share: their order, who may open them, the list of them, saving and going on.

A step is a function that is given the request and the task and answers GET and POST:

    @step("objects", done=lambda task: bool(task.databases))
    def objects(request, task):
        form = ObjectsForm(request.POST or None, task=task)
        if request.method == "POST" and form.is_valid():
            tasks.configure(request.user, task, ..., wizard_step=step_after(request, "objects"))
            return onward(request, task, "objects")
        return page(request, task, "objects", "migrations_app/setup_objects.html", {"form": form})

Its template extends `migrations_app/setup_base.html` and fills the block `step` with a form; the buttons are those of
`migrations_app/_setup_buttons.html`. Nothing is lost on the way: each step stores what it is about, and going to another
step (by the list, or with the browser's button) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from migrations_app import states
from migrations_app.choices import TaskStatus
from migrations_app.limits import limits_of
from migrations_app.models import MigrationTask
from migrations_app.services import connectivity
from migrations_app.states import Action
from migrations_app.views.common import visible_task
from portal.htmx import HtmxHttpRequest, render_page, wants_fragment
from portal.services.permissions import require_operator, role_in

StepView = Callable[[HtmxHttpRequest, MigrationTask], HttpResponse]
Done = Callable[[MigrationTask], bool]

LEAVE: Final = "leave"  # the name of the button that saves and leaves


@dataclass(frozen=True, slots=True)
class Step:
    key: str
    label: str
    about: str


ORDER: Final = (
    Step("sides", "Source and target", "Where the data comes from, and where it goes."),
    Step("objects", "Objects and phases", "What is migrated, and how."),
    Step("precheck", "Precheck", "Whether anything speaks against it."),
    Step("confirm", "Confirm and start", "All settings on one page."),
)
KEYS: Final = tuple(step.key for step in ORDER)
_VIEWS: Final[dict[str, tuple[StepView, Done]]] = {}


@dataclass(frozen=True, slots=True)
class Mark:
    """A step in the list: `state` is done, current or open; a step that cannot be opened yet says why in `closed`."""

    step: Step
    state: str
    icon: str
    words: str
    closed: str = ""


def step(key: str, *, done: Done) -> Callable[[StepView], StepView]:
    """Register the view of a step. `done` tells whether the step has nothing left to do."""

    def register(view: StepView) -> StepView:
        _VIEWS[key] = view, done
        return view

    return register


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def task_setup(request: HtmxHttpRequest, public_id: str, step: str) -> HttpResponse:
    """One step of the set-up. A task that can no longer be set up leads to its page."""
    task = opened(request, public_id, step)
    return task if isinstance(task, HttpResponse) else _VIEWS[step][0](request, task)


def opened(request: HtmxHttpRequest, public_id: str, step: str) -> MigrationTask | HttpResponse:
    """The task, if the person may work on this step of it now; else where to go instead. Raises Http404 or a refusal."""
    task = visible_task(request, public_id)
    role = role_in(request.user, task.account)
    if request.method != "POST" and role is not None and not role.can_operate:
        return redirect(task)  # who may look finds there what is set up
    require_operator(request.user, task.account)
    if step not in _VIEWS:
        raise Http404(f"no step {step}")
    verdict = states.allowed(Action.CONFIGURE, TaskStatus(task.status))
    if not verdict.open and not (step == "precheck" and task.status == TaskStatus.PRECHECKING):
        return _elsewhere(request, f"{verdict.reason} Nothing was changed.", task.get_absolute_url())
    if why := closed(task, step):
        return _elsewhere(request, why, reverse("task_setup", args=[task.public_id, KEYS[0]]))
    return task


def _elsewhere(request: HtmxHttpRequest, why: str, url: str) -> HttpResponse:
    """To another page, with the reason. A part of this one that is live goes there as a whole: the task has started meanwhile."""
    if wants_fragment(request):
        return HttpResponseClientRedirect(url)
    messages.info(request, why)
    return redirect(url)


def closed(task: MigrationTask, key: str) -> str:
    """Why a step cannot be opened yet; "" if it can. What the later steps ask and show depends on both sides."""
    if key == KEYS[0] or connectivity.is_passed(task):
        return ""
    return "Choose source and target and test the connectivity first: the next steps depend on what is found there."


def page(
    request: HtmxHttpRequest,
    task: MigrationTask,
    key: str,
    template: str,
    context: dict[str, Any] | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    """The page of a step, within the frame of the set-up."""
    return render(request, template, frame(task, key) | (context or {}), status=status)


def part(
    request: HtmxHttpRequest,
    task: MigrationTask,
    key: str,
    template: str,
    fragment: str,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """The same, or its fragment where htmx asks for it."""
    return render_page(request, template, fragment, frame(task, key) | context, status=status)


def frame(task: MigrationTask, key: str) -> dict[str, Any]:
    """What setup_base.html shows."""
    return {
        "task": task,
        "steps": marks(task, key),
        "step": next(one for one in ORDER if one.key == key),
        "number": KEYS.index(key) + 1,
        "limits": limits_of(task),
    }


def marks(task: MigrationTask, key: str) -> list[Mark]:
    """The list of the steps, seen from the step `key`."""
    found = []
    later = closed(task, KEYS[-1])  # one question for all: it asks the database and opens secrets
    for one in ORDER:
        if one.key not in _VIEWS:
            continue
        why = later if one.key != KEYS[0] else ""
        if one.key == key:
            found.append(Mark(one, "current", "edit", "you are here"))
        elif not why and _VIEWS[one.key][1](task):
            found.append(Mark(one, "done", "check-circle", "done"))
        else:
            found.append(Mark(one, "open", "dot", "open" if not why else "after the connectivity test", why))
    return found


def step_after(request: HtmxHttpRequest, key: str) -> str:
    """What `wizard_step` becomes with this POST: the next step, or this one if the person leaves."""
    following = [one for one in KEYS[KEYS.index(key) + 1 :] if one in _VIEWS]
    return key if LEAVE in request.POST or not following else following[0]


def onward(request: HtmxHttpRequest, task: MigrationTask, key: str) -> HttpResponseRedirect:
    """After a step was saved: to the next one, or to the list if the person leaves."""
    if LEAVE in request.POST:
        return left(request, task)
    return redirect("task_setup", task.public_id, step_after(request, key))


def address(task: MigrationTask, key: str, fragment: str = "") -> str:
    """Of a step, and of a place in it."""
    url = reverse("task_setup", args=[task.public_id, key])
    return f"{url}#{fragment}" if fragment else url


def left(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponseRedirect:
    messages.success(
        request, f"The set-up of {task.name} was saved. Open the task to go on where you left it."
    )
    return redirect("task_list")


def where_left(task: MigrationTask) -> str:
    """The step at which the set-up goes on."""
    return task.wizard_step if task.wizard_step in _VIEWS and not closed(task, task.wizard_step) else KEYS[0]
