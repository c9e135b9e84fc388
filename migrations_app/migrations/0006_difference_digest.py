"""Keys of Redis can be longer than an entry of an index: a digest is what is unique."""

import hashlib

from django.db import migrations, models


def fill(apps, schema_editor):
    difference = apps.get_model("migrations_app", "Difference")
    for row in difference.objects.only("key").iterator(chunk_size=1000):
        digest = hashlib.sha256(bytes(row.key)).hexdigest()
        difference.objects.filter(pk=row.pk).update(digest=digest)


class Migration(migrations.Migration):
    dependencies = [("migrations_app", "0005_repairs_of_servers")]

    operations = [
        migrations.RemoveConstraint(model_name="difference", name="difference_once"),
        migrations.AddField(
            model_name="difference",
            name="digest",
            field=models.CharField(
                default="",
                editable=False,
                help_text="SHA-256 of the key, which may be too long for an index.",
                max_length=64,
            ),
            preserve_default=False,
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="difference",
            constraint=models.UniqueConstraint(
                fields=("inspection", "database", "digest"), name="difference_once"
            ),
        ),
    ]
