"""Debian packages without root: apt with a configuration, lists and a cache of its own, and `dpkg -x`.

The mirror is the one that this machine's own apt sources name. Nothing is installed: the files are unpacked into a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import NotToBeHad, run
from .table import Debs

SOURCES = Path("/etc/apt")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIBRARY = re.compile(r"lib|lua-|zlib1g$")  # dependencies that are followed; tools, scripts and data are not
BASES = {
    "experimental": "trixie"
}  # its own base is sid, whose C library may be newer than the machine's kernel likes
DEPENDS = [
    "--recurse",
    "--no-recommends",
    "--no-suggests",
    "--no-conflicts",
    "--no-breaks",
    "--no-replaces",
    "--no-enhances",
]


@dataclass(frozen=True)
class Mirror:
    """Where this machine gets Debian from."""

    main: str
    security: str | None
    options: str  # of one line of sources.list, without the brackets

    def lines(self, suite: str) -> str:
        """sources.list for one suite, with what it stands on and that one's updates."""
        base = BASES.get(suite, suite.removesuffix("-backports"))
        wanted = dict.fromkeys([(self.main, suite), (self.main, base), (self.main, f"{base}-updates")])
        if self.security:
            wanted[self.security, f"{base}-security"] = None
        return "".join(f"deb [{self.options}] {uri} {name} main\n" for uri, name in wanted)


def mirror(sources: Path = SOURCES) -> Mirror:
    """Reads the machine's apt sources, in the one-line and in the deb822 form."""
    found: dict[str, tuple[str, str]] = {}
    for uri, suites, keyring in _entries(sources):
        path = uri.rstrip("/").rsplit("/", 1)[-1]
        if path in ("debian", "debian-security"):
            security = path == "debian-security" or any(suite.endswith("-security") for suite in suites)
            found.setdefault("security" if security else "main", (uri, keyring))
    if "main" not in found:
        raise NotToBeHad("this machine's apt sources name no Debian mirror")
    uri, keyring = found["main"]
    return Mirror(uri, found.get("security", (None, ""))[0], f"signed-by={keyring or KEYRING}")


def _entries(sources: Path) -> Iterable[tuple[str, list[str], str]]:
    """(URI, suites, keyring or empty) of each source that gives binary packages."""
    lists = [sources / "sources.list", *sorted(sources.glob("sources.list.d/*.list"))]
    for text in (file.read_text(errors="replace") for file in lists if file.is_file()):
        for line in text.splitlines():
            if entry := re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", line.strip()):
                options = dict(option.split("=", 1) for option in (entry[1] or "").split() if "=" in option)
                yield entry[2], [entry[3]], options.get("signed-by", "")
    for file in sorted(sources.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text(errors="replace")):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if fields.get("Enabled", "yes").lower() == "no" or "deb" not in fields.get("Types", "").split():
                continue
            for uri in fields.get("URIs", "").split():
                yield uri, fields.get("Suites", "").split(), fields.get("Signed-By", "")


class Suite:
    """One suite's lists, fetched when something is asked of it that the cache has not, and deleted at the end."""

    def __init__(self, name: str, cache: Path) -> None:
        self.name = name
        self.debs = cache / "debian" / name
        self._lock = threading.Lock()
        self._work: Path | None = None
        self._graph: dict[str, list[str]] | None = None

    def fetch(self, wanted: Debs) -> list[Path]:
        """The packages and the libraries that they depend on, as files."""
        kept = self.debs / f"{'_'.join(wanted.packages)}.files"
        with self._lock:
            if kept.is_file() and all((self.debs / name).is_file() for name in kept.read_text().split()):
                return [self.debs / name for name in kept.read_text().split()]
            work = self._update()
            if self.name in BASES or self.name.endswith("-backports"):
                # These have a low priority: the packages that are asked for come from here, the rest from the base.
                pins = (
                    f"Package: {' '.join(wanted.packages)}\nPin: release {by}={self.name}\nPin-Priority: 990\n"
                    for by in "na"
                )
                (work / "etc/preferences").write_text("\n".join(pins))
            names = self.closure(wanted)
            self.debs.mkdir(parents=True, exist_ok=True)
            urls = self._apt("apt-get", "download", "--print-uris", *names).splitlines()
            files = [line.split()[1] for line in urls if line.startswith("'")]  # in an order of apt's own
            missing = [file.split("_")[0] for file in files if not (self.debs / file).is_file()]
            if missing:
                # apt writes under the final name while it downloads: a folder aside, and then the rename.
                with tempfile.TemporaryDirectory(dir=self.debs, prefix=".part-") as part:
                    self._apt("apt-get", "download", "-qq", *missing, cwd=Path(part))
                    for file in Path(part).iterdir():
                        file.rename(self.debs / file.name)
            kept.write_text("\n".join(files) + "\n")
            return [self.debs / name for name in files]

    def closure(self, wanted: Debs) -> list[str]:
        """The packages themselves and every library package below them."""
        without = set(wanted.without) | (set() if wanted.own_loader else {"libc6"})
        graph = self._depends(wanted.packages)
        found: list[str] = []
        queue = list(wanted.packages)
        while queue:
            name = queue.pop(0)
            if name not in found:
                found.append(name)
                queue += [
                    below for below in graph.get(name, []) if LIBRARY.match(below) and below not in without
                ]
        return sorted(found)

    def _depends(self, packages: tuple[str, ...]) -> dict[str, list[str]]:
        return parse_depends(self._apt("apt-cache", "depends", *DEPENDS, *packages))

    def _update(self) -> Path:
        if self._work is not None:
            return self._work
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise NotToBeHad("it comes from Debian, and this machine has no apt-get and dpkg")
        lines = mirror().lines(self.name)
        self.debs.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=self.debs.parent, prefix=f".lists-{self.name}-"))
        for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (work / name).mkdir(parents=True)
        (work / "status").touch()
        (work / "etc/sources.list").write_text(lines)
        (work / "apt.conf").write_text(
            f'Dir::State "{work}/state"; Dir::State::status "{work}/status"; Dir::Cache "{work}/cache"; '
            f'Dir::Etc "{work}/etc"; APT::Sandbox::User "root"; Acquire::Languages "none"; '
            # A snapshot of the archive, or a suite that is no longer renewed, has a Release file past its date.
            'Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false"; Acquire::Retries "2"; '
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; Acquire::GzipIndexes "true";\n'
        )
        self._work = work
        try:
            self._apt("apt-get", "update", "-qq", "--error-on=any")
        except NotToBeHad:
            self.close()
            raise
        return work

    def _apt(self, *command: str, cwd: Path | None = None) -> str:
        # The machine's own /etc/apt/apt.conf.d is read before APT_CONFIG's file: proxies and certificates stay in force.
        return run(
            list(command), env={**os.environ, "APT_CONFIG": f"{self._work}/apt.conf", "LC_ALL": "C"}, cwd=cwd
        )

    def close(self) -> None:
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = None


def parse_depends(output: str) -> dict[str, list[str]]:
    """`apt-cache depends`: package → what it depends on, the first of alternatives."""
    graph: dict[str, list[str]] = {}
    current: list[str] = []
    alternative = False
    for line in output.splitlines():
        if not line.startswith(" "):
            current = graph.setdefault(line.strip(), [])
            alternative = False
        elif entry := re.match(r" ( |\|)(?:Pre)?Depends: (\S+)", line):
            if not alternative and not entry[2].startswith("<") and entry[2] not in current:
                current.append(entry[2])
            alternative = entry[1] == "|"
    return graph


def unpack(files: list[Path], root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        run(["dpkg", "-x", str(file), str(root)])


def library_folders(root: Path) -> list[str]:
    """The folders with libraries below an unpacked root, relative to it, the general ones first."""
    found = {
        path.parent.relative_to(root)
        for pattern in ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*")
        for path in (*root.glob(f"{pattern}/*.so*"), *root.glob(f"{pattern}/*/*.so*"))
    }
    return [str(path) for path in sorted(found, key=lambda path: (len(path.parts), path))]
