"""What a service says when it refuses.

Every refusal has an `id` that never changes (`instance.duplicate`), a sentence that says what happened and
what was not changed, and advice: what to do next. Views turn them into pages and form errors; `status` is the
HTTP status.
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Base of all refusals.

    A subclass sets `id`, and `message` and `advice` as defaults; an instance may give its own text. `field`
    names the form field that the refusal is about, or is empty.
    """

    id: str = "error"
    message: str = "The request was refused. Nothing was changed."
    advice: str = ""
    field: str = ""
    status: ClassVar[int] = 422

    def __init__(
        self,
        message: str | None = None,
        *,
        advice: str | None = None,
        id: str | None = None,
        field: str | None = None,
    ) -> None:
        if message is not None:
            self.message = message
        if advice is not None:
            self.advice = advice
        if id is not None:
            self.id = id
        if field is not None:
            self.field = field
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class NotPermitted(ServiceError):
    """The person may see the object but not do this to it."""

    id = "permission.denied"
    message = "Your role does not allow this. Nothing was changed."
    advice = "Ask an owner of the account for the role Operator."
    status = 403


class NotFound(ServiceError):
    """There is no such object, or it belongs to an account that the person is not a member of. Never tells which."""

    id = "object.not_found"
    message = "There is no such object in your accounts."
    status = 404


class Conflict(ServiceError):
    """The object is not in a state that allows this, or somebody else changed it meanwhile."""

    id = "object.conflict"
    message = "The object was changed by somebody else meanwhile. Nothing was changed."
    advice = "Load the page again and repeat what you wanted to do."
    status = 409


class Invalid(ServiceError):
    """What was entered cannot be used."""

    id = "input.invalid"
    status = 422
