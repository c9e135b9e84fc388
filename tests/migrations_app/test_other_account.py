"""The set-up of a task with a side of another account: each wrong input has its own error (R68), and no page shows an address."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from migrations_app.models import MigrationTask
from migrations_app.services import tasks
from portal.choices import Access
from portal.models import AccessRole, Account, Instance
from portal.services import roles
from portal.services.roles import Cover

from .conftest import instance

pytestmark = pytest.mark.django_db
SECRET_HOST = "vault-7.corp.example"


@pytest.fixture
def foreign(other_account: Account) -> Instance:
    made = instance(other_account, "archive", 6480)
    made.endpoint.host = SECRET_HOST
    made.endpoint.save()
    return made


@pytest.fixture
def granted(account: Account, other_account: Account, foreign: Instance) -> AccessRole:
    return roles.create_role(
        None,
        other_account,
        name="archive-reader",
        trusted_account_id=account.public_id,
        coverage=[Cover(foreign, [0, 3])],
    )


@pytest.fixture
def draft(operator: User, account: Account) -> MigrationTask:
    return tasks.create_draft(operator, account)


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def sent(
    granted: AccessRole, foreign: Instance, target: Instance, side: str = "source", **changes: str
) -> dict[str, str]:
    values = {
        "origin": "account",
        "owner_account": granted.account.public_id,
        "role_name": granted.name,
        "covered": foreign.public_id,
    }
    other = "target" if side == "source" else "source"
    rest = {f"{other}-origin": "fleet", f"{other}-instance": target.public_id}
    return {f"{side}-{name}": value for name, value in (values | changes).items()} | rest


def address(task: MigrationTask) -> str:
    return f"/migrations/{task.public_id}/setup/sides/"


def test_the_side_is_stored_with_its_role(
    browser: Client, draft: MigrationTask, granted: AccessRole, foreign: Instance, target: Instance
) -> None:
    response = browser.post(address(draft), sent(granted, foreign, target))
    assert response.status_code == 302
    draft.refresh_from_db()
    assert (draft.source, draft.source_role, draft.databases) == (foreign, granted, [0, 3])
    page = browser.get(address(draft)).content.decode()
    assert f'value="{granted.account.public_id}"' in page
    assert f'<option value="{foreign.public_id}" selected>archive' in page
    assert "databases 0, 3" in page
    assert SECRET_HOST not in page
    for step in ("objects", "precheck", "confirm"):
        answer = browser.get(f"/migrations/{draft.public_id}/setup/{step}/", follow=True)
        assert SECRET_HOST not in answer.content.decode()
    # Another side of the own account needs no role any more.
    own = instance(draft.account, "own-source", 6490)
    browser.post(
        address(draft),
        {"source-origin": "fleet", "source-instance": own.public_id, "target-origin": "fleet",
         "target-instance": target.public_id},
    )  # fmt: skip
    draft.refresh_from_db()
    assert (draft.source, draft.source_role) == (own, None)


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"owner_account": ""}, "owner_account", "No account is named"),
        ({"owner_account": "acc-00000000"}, "owner_account", "There is no account with the ID acc-00000000"),
        ({"owner_account": "own"}, "owner_account", "is your own account"),
        ({"role_name": ""}, "role_name", "No role is named"),
        ({"role_name": "nothing"}, "role_name", "has no role named nothing"),
        ({"covered": ""}, "covered", "Choose the instance that is the source"),
        ({"covered": "another"}, "covered", "The role does not cover this instance"),
    ],
)
def test_wrong_input(
    browser: Client, draft: MigrationTask, granted: AccessRole, foreign: Instance, target: Instance,
    changes: dict[str, str], field: str, said: str,
) -> None:  # fmt: skip
    if changes.get("owner_account") == "own":
        changes = {"owner_account": draft.account.public_id}
    if changes.get("covered") == "another":
        changes = {"covered": instance(granted.account, "second").public_id}
    response = browser.post(address(draft), sent(granted, foreign, target, **changes))
    assert response.status_code == 422
    form = response.context["sides"][0]
    assert list(form.errors) == [field]
    assert said in str(form.errors[field])
    assert said in response.content.decode().replace("&#x27;", "'")
    draft.refresh_from_db()
    assert draft.source is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revoked_at": timezone.now()}, "was revoked"),
        ({"expires_at": timezone.now()}, "expired on"),
        ({"trusted_account": "other"}, "does not trust the account"),
    ],
)
def test_a_role_that_cannot_be_used(
    browser: Client, draft: MigrationTask, granted: AccessRole, foreign: Instance, target: Instance, change: Any, said: str
) -> None:  # fmt: skip
    if change.get("trusted_account"):
        change = {"trusted_account": Account.objects.create(name="Third")}
    AccessRole.objects.update(**change)
    response = browser.post(address(draft), sent(granted, foreign, target))
    form = response.context["sides"][0]
    assert (response.status_code, list(form.errors)) == (422, ["role_name"])
    assert said in str(form.errors)
    assert "archive" not in "".join(str(option) for option in form["covered"].subwidgets)


def test_a_target_needs_a_role_that_may_write(
    browser: Client, draft: MigrationTask, granted: AccessRole, foreign: Instance, source: Instance
) -> None:
    values = sent(granted, foreign, source, side="target")
    response = browser.post(address(draft), values)
    assert response.status_code == 422
    assert "allows reading only" in str(response.context["sides"][1].errors["role_name"])
    AccessRole.objects.update(access=Access.READ_WRITE)
    assert browser.post(address(draft), values).status_code == 302
    draft.refresh_from_db()
    assert (draft.target, draft.target_role) == (foreign, granted)


def test_the_instances_appear_when_both_are_typed(
    browser: Client, draft: MigrationTask, granted: AccessRole, foreign: Instance, target: Instance
) -> None:
    values = sent(granted, foreign, target, covered="") | {"refresh": "1"}
    page = browser.post(address(draft), values, headers={"HX-Request": "true"}).content.decode()
    assert f'<option value="{foreign.public_id}">archive' in page
    assert SECRET_HOST not in page
    values = sent(granted, foreign, target, role_name="wrong") | {"refresh": "1"}
    page = browser.post(address(draft), values, headers={"HX-Request": "true"}).content.decode()
    assert "has no role named wrong" in page
    draft.refresh_from_db()
    assert draft.source is None
