"""Encrypts every stored credential anew, with the first of CREDENTIAL_KEYS."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Model

from portal import keys
from portal.fields import EncryptedTextField, Secret
from portal.services import audit


class Command(BaseCommand):
    help = (
        "Encrypt every stored credential with the first of CREDENTIAL_KEYS. Put the new key in front and leave the old ones "
        "behind it, run this, then take the old ones away. It can be run again at any time."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rotated = unreadable = 0
        for model, field in encrypted_fields():
            for pk, secret in (
                model._default_manager.exclude(**{field: ""}).values_list("pk", field).iterator()
            ):
                try:
                    new = Secret(token=keys.rotate(secret.token()))
                except keys.CredentialUnreadable:
                    unreadable += 1
                    self.stderr.write(
                        f"{model._meta.label} {pk}: none of the keys decrypts it. It was left as it is."
                    )
                    continue
                # Compare and swap: a password that is changed meanwhile stays.
                rotated += model._default_manager.filter(pk=pk, **{field: secret}).update(**{field: new})
        audit.record(None, "credentials.rotated", rotated=rotated, unreadable=unreadable)
        self.stdout.write(f"{rotated} credentials are encrypted with the first key.")
        if unreadable:
            raise CommandError(
                f"{unreadable} credentials could not be decrypted. Add the key that encrypted them to CREDENTIAL_KEYS and run "
                "this again, or enter these passwords again."
            )


def encrypted_fields() -> list[tuple[type[Model], str]]:
    """Every encrypted field of every app: (model, name of the field)."""
    return [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, EncryptedTextField)
    ]
