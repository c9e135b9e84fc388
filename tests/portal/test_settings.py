"""Settings from the environment and system checks. Settings are read in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from portal import checks, env, keys

ROOT = Path(__file__).parent.parent.parent
PRODUCTION = {"ALLOWED_HOSTS": "console.example.com", "SITE_URL": "https://console.example.com"}


def manage(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "SWITCHYARD_DATA_DIR": str(folder), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=base | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return {"SECRET_KEY": keys.generate_secret_key(), "CREDENTIAL_KEYS": keys.generate_credential_key()}


class TestSettings:
    def test_without_a_secret_key(self, tmp_path: Path) -> None:
        result = manage("check", folder=tmp_path)
        assert result.returncode != 0
        assert "SECRET_KEY is not set" in result.stderr
        assert "generate_keys" in result.stderr
        assert manage("generate_keys", folder=tmp_path).stdout.startswith("SECRET_KEY=")

    def test_production_is_clean(self, tmp_path: Path, generated: dict[str, str]) -> None:
        collected = manage("collectstatic", "--no-input", folder=tmp_path, **generated, **PRODUCTION)
        assert collected.returncode == 0, collected.stderr
        result = manage(
            "check", "--deploy", "--fail-level", "WARNING", folder=tmp_path, **generated, **PRODUCTION
        )
        assert result.returncode == 0, result.stderr

    def test_files(self, tmp_path: Path, generated: dict[str, str]) -> None:
        files = {}
        for name, value in generated.items():
            (tmp_path / name).write_text(f"{value}\n")
            files[f"{name}_FILE"] = str(tmp_path / name)
        assert manage("check", folder=tmp_path, **files).returncode == 0
        both = manage("check", folder=tmp_path, **files, **generated)
        assert "Both SECRET_KEY and SECRET_KEY_FILE are set" in both.stderr


class TestEnvironment:
    def test_flag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for value, expected in (("1", True), ("On", True), ("no", False), ("", False)):
            monkeypatch.setenv("X", value)
            assert env.flag("X", not expected) is expected
        monkeypatch.setenv("X", "perhaps")
        with pytest.raises(ImproperlyConfigured, match="X is 'perhaps'"):
            env.flag("X", True)

    def test_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X", " a, b,,")
        assert env.words("X") == ["a", "b"]
        with pytest.raises(ImproperlyConfigured):
            env.number("X", 1)
        with pytest.raises(ImproperlyConfigured):
            env.one_of("X", ("json",), "json")
        monkeypatch.setenv("Y_FILE", "/nonexistent")
        with pytest.raises(ImproperlyConfigured, match="cannot be read"):
            env.text("Y")


def ids(messages: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


class TestChecks:
    def test_keys(self, settings: Settings) -> None:
        assert ids(checks.credential_keys(None)) == []
        settings.CREDENTIAL_KEYS = []
        assert ids(checks.credential_keys(None)) == ["portal.E001"]
        settings.CREDENTIAL_KEYS = ["not-a-key"]
        message = checks.credential_keys(None)[0]
        assert "Key 1" in message.msg
        assert "not-a-key" not in message.msg
        settings.SECRET_KEY = "short"
        assert ids(checks.secret_key(None)) == ["portal.E002"]

    def test_site_url(self, settings: Settings) -> None:
        for url, found in {
            "https://console.example": [],
            "http://10.0.0.5:8000": [],
            "http://localhost:8000": ["portal.W002"],
            "http://127.0.0.1": ["portal.W002"],
            "console.example": ["portal.W002"],
        }.items():
            settings.SITE_URL = url
            assert ids(checks.site_url(None)) == found, url

    def test_sqlite_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def use(path: Path) -> None:
            database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
            monkeypatch.setitem(django_settings.DATABASES, "default", database)

        use(tmp_path / "missing" / "x.sqlite3")
        assert ids(checks.sqlite_directory(None)) == ["portal.E003"]
        use(tmp_path / "x.sqlite3")
        assert ids(checks.sqlite_directory(None)) == []
        if os.getuid() != 0:
            tmp_path.chmod(0o500)
            assert ids(checks.sqlite_directory(None)) == ["portal.E004"]

    def test_clusters(self, settings: Settings) -> None:
        assert ids(checks.clusters(None)) == []
        settings.Q_CLUSTER = {"name": "default", "timeout": 60, "retry": 30}
        assert ids(checks.clusters(None)) == ["portal.E005", "portal.E006"]

    def test_networks_and_static_files(self, settings: Settings) -> None:
        settings.ALLOWED_NETWORKS = ["10.0.0.0/8", "nowhere"]
        assert ids(checks.allowed_networks(None)) == ["portal.E007"]
        assert not django_settings.COLLECTED
        assert ids(checks.collected(None)) == ["portal.W001"]
