"""Unpacks one server beside its place, proves that it runs, and moves it there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from . import debian, wheels
from .errors import NotToBeHad, run
from .table import Row

FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">root/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


def installed(place: Path) -> dict[str, tuple[str, Path]]:
    """What is there: fingerprint of the row → version, folder."""
    found = {}
    for file in place.glob("*/row.json"):
        row = json.loads(file.read_text())
        if (file.parent / "bin" / "server").is_file():
            found[row["row"]] = (row["version"], file.parent)
    return found


def install(
    row: Row, wheel: Path | None, sdist: Path | None, debs: list[Path], place: Path
) -> tuple[str, Path]:
    """Returns version and folder. Raises NotToBeHad if it does not run here."""
    with tempfile.TemporaryDirectory(dir=place, prefix=f".{row.name}-") as name:
        home = Path(name, "server")
        root = home / "root"
        root.mkdir(parents=True)
        if row.wheel and wheel:
            wheels.unpack(row.wheel, wheel, root)
        if row.sdist and sdist:
            wheels.build(row.sdist, sdist, root)
        if row.debs:
            debian.unpack(debs, root)
        for extra in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / extra, ignore_errors=True)
        if (root / "usr/share/fonts").is_dir():
            (home / "fonts.conf").write_text(FONTS)
        write_wrappers(row, home)
        version = prove(row, home)
        folder = place / f"{row.product}-{version}"
        (home / "row.json").write_text(json.dumps({"row": row.fingerprint, "version": version}) + "\n")
        home.chmod(0o755)
        if folder.exists():
            folder.rename(Path(name, "before"))  # removed with the temporary folder
        home.rename(folder)
    return version, folder


def prove(row: Row, home: Path) -> str:
    try:
        output = run([str(home / "bin" / "server"), "--version"])
    except OSError as error:
        raise NotToBeHad(f"it does not run here: {error.strerror}") from error
    except NotToBeHad as error:
        raise NotToBeHad(f"it does not run here: {error}") from error
    said = re.search(row.says, output)
    if said is None:
        raise NotToBeHad(f"it says no version: {output.strip()[:100]}")
    return said[1]


def write_wrappers(row: Row, home: Path) -> None:
    root = home / "root"
    program = next(root.glob(row.program), None)
    if program is None:
        raise NotToBeHad(f"no {row.program} in what was fetched")
    (home / "bin").mkdir()
    for name in ("server", *row.extra):
        sibling = program.with_name(name)
        path = sibling if name != "server" and sibling.is_file() else program
        file = home / "bin" / name
        file.write_text(wrapper(row, root, path.relative_to(root)))
        file.chmod(0o755)


def wrapper(row: Row, root: Path, program: Path) -> str:
    """A shell script that becomes the program: same process, same arguments. The folder can be moved."""
    lines = ["#!/bin/sh", 'here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)/root']
    target = f'"$here"/{shlex.quote(str(program))}'
    if row.debs:
        folders = ":".join(f"$here/{folder}" for folder in debian.library_folders(root))
        loader = next((path for path in root.glob("**/ld-linux-*.so.*") if path.parent.name != "lib64"), None)
        if (root / "usr/share/fonts").is_dir():
            lines.append('export FONTCONFIG_FILE="$here/../fonts.conf" XDG_CACHE_HOME="$here/../cache"')
        if row.debs.own_loader:
            if loader is None:
                raise NotToBeHad("the suite's dynamic loader is not among its packages")
            argv0 = row.argv0 or program.name
            target = f'"$here"/{loader.relative_to(root)} --library-path "{folders}" --argv0 {argv0} {target}'
        else:
            lines.append(f'export LD_LIBRARY_PATH="{folders}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"')
    return "\n".join([*lines, f'exec {target} "$@"', ""])
