"""Releases on PyPI, through pip: downloaded with a known hash, never installed, none of their code run (a source's Makefile apart)."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from .errors import NotToBeHad, run
from .table import Sdist, Wheel

# pip wants a source's metadata before it hands the file over, and asks the source's own setup.py for it. This stand-in
# answers in its place: old setup.py files fail under new Pythons, and none of their code needs to run.
BACKEND = """
import pathlib, sys

__legacy__ = sys.modules[__name__]

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name, version = {name!r}, {version!r}
    folder = pathlib.Path(metadata_directory, f"{{name}}-{{version}}.dist-info")
    folder.mkdir()
    folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n")
    return folder.name
"""


def download(source: Wheel | Sdist, cache: Path) -> Path:
    """Returns the file of the release, from the cache if it is there. pip checks the hash of what it brings."""
    folder = cache / "pypi" / "-".join([source.requirement.replace("==", "-"), *_tags(source)])
    if kept := sorted(folder.glob("*")):
        return kept[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    hashes = (source.sha256,) if isinstance(source, Sdist) else source.sha256
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as name:
        work = Path(name)
        (work / "files").mkdir()
        requirements = work / "requirements.txt"
        requirements.write_text(
            " ".join([source.requirement, *(f"--hash=sha256:{value}" for value in hashes)]) + "\n"
        )
        options = [
            "--no-deps",
            "--require-hashes",
            "--requirement",
            str(requirements),
            "--dest",
            str(work / "files"),
        ]
        environment = dict(os.environ)
        if isinstance(source, Sdist):
            options += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
            backend = work / "backend" / "setuptools"
            backend.mkdir(parents=True)
            (backend / "__init__.py").touch()
            release, version = source.requirement.split("==")
            (backend / "build_meta.py").write_text(BACKEND.format(name=release, version=version))
            environment["PYTHONPATH"] = str(backend.parent)
        else:
            options += ["--only-binary", ":all:", *source.options]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        run([*pip, *options], env=environment)
        shutil.rmtree(folder, ignore_errors=True)
        (work / "files").rename(folder)
    return next(folder.iterdir())


def _tags(source: Wheel | Sdist) -> tuple[str, ...]:
    return ("sdist",) if isinstance(source, Sdist) else source.options[-1:]


def unpack(wheel: Wheel, file: Path, root: Path) -> None:
    keep = re.compile(wheel.keep)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not keep.match(member.filename) or member.is_dir():
                continue
            target = Path(archive.extract(member, root))
            # zipfile drops the execute bit; a wheel that was made without modes has programs all the same.
            mode = stat.S_IMODE(member.external_attr >> 16) or 0o644
            program = "/bin/" in member.filename or "/_binaries/" in member.filename
            target.chmod(mode | (0o755 if program else 0o644))


def build(source: Sdist, file: Path, root: Path) -> None:
    """Compiles the source and leaves what the first argument of its `make` names in `root`."""
    for tool in ("make", "cc"):
        if shutil.which(tool) is None:
            raise NotToBeHad(f"it has to be compiled, and there is no {tool} on this machine")
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".build-") as name:
        with tarfile.open(file) as archive:
            archive.extractall(name, filter="data") if hasattr(
                tarfile, "data_filter"
            ) else archive.extractall(name)  # noqa: S202 - its hash is known
        (top,) = Path(name).iterdir()
        folder = top / source.folder
        # Called by make, this would hand on that one's own flags (no built-in rules, a job server).
        environment = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")
        }
        run(["make", "-s", f"-j{os.cpu_count() or 1}", *source.make], cwd=folder, env=environment)
        root.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / source.make[0], root / source.make[0])
