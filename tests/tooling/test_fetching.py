"""How the servers are fetched, without the network: the table, apt's sources and answers, wrappers, the summary."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.servers import __main__ as command
from scripts.servers import debian, install
from scripts.servers.errors import NotToBeHad, reason
from scripts.servers.table import TABLE, Debs, Row, choose

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
DEPENDS = """\
redis-tools
  Depends: adduser
  PreDepends: libc6
 |Depends: libssl3
  Depends: libssl-other
  Depends: <libvirtual>
    libreal
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: libc6
adduser
  Depends: libpam
"""


def test_rows_have_one_name_each() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))


def test_every_release_from_pypi_has_hashes() -> None:
    for row in TABLE:
        for source in (row.wheel, row.sdist):
            assert source is None or ("==" in source.requirement and source.sha256)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("redis-7", {"redis-7.0.15", "redis-7.2.4", "redis-7.4.1"}),
        ("redis-7.0", {"redis-7.0.15"}),
        ("postgresql", {"postgresql-18"}),
    ],
)
def test_choose_by_prefix(name: str, found: set[str]) -> None:
    assert {row.name for row in choose([name])} == found


def test_choose_refuses_a_name_that_fits_nothing() -> None:
    with pytest.raises(ValueError, match="redis-0"):
        choose(["redis-0"])


def test_a_changed_row_is_another_one() -> None:
    row = TABLE[0]
    assert replace(row, program="other").fingerprint != row.fingerprint
    assert replace(row).fingerprint == row.fingerprint


def test_mirror_from_deb822(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    mirror = debian.mirror(tmp_path)
    assert mirror.lines("trixie").splitlines() == [
        "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian trixie main",
        "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian trixie-updates main",
        "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian-security trixie-security main",
    ]
    assert [line.split()[3] for line in mirror.lines("bookworm-backports").splitlines()] == [
        "bookworm-backports",
        "bookworm",
        "bookworm-updates",
        "bookworm-security",
    ]


def test_mirror_from_the_one_line_form(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian sid main\n"
        "deb [arch=amd64 signed-by=/keys/other.gpg] https://tool.example/apt stable main\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian bookworm main\n"
    )
    assert debian.mirror(tmp_path) == debian.Mirror(
        "http://mirror.example/debian", None, f"signed-by={debian.KEYRING}"
    )


def test_no_mirror_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotToBeHad, match="no Debian mirror"):
        debian.mirror(tmp_path)


def test_closure_follows_libraries_and_takes_the_first_alternative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    suite = debian.Suite("bookworm", tmp_path)
    monkeypatch.setattr(suite, "_apt", lambda *_: DEPENDS)
    wanted = Debs("bookworm", ("redis-tools",))
    assert suite.closure(wanted) == ["libc6", "libgcc-s1", "libssl3", "redis-tools"]
    assert suite.closure(replace(wanted, own_loader=False)) == ["libssl3", "redis-tools"]
    assert suite.closure(replace(wanted, without=("libssl3",))) == ["libc6", "libgcc-s1", "redis-tools"]


def test_the_wrapper_hands_on_arguments_and_becomes_the_program(tmp_path: Path) -> None:
    program = tmp_path / "root" / "a b" / "tool"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho $$ "$@"\n')
    program.chmod(0o755)
    row = Row("tool", "1", "a b/tool")
    install.write_wrappers(row, tmp_path)
    wrapper = tmp_path / "bin" / "server"
    with subprocess.Popen([wrapper, "one two", "*"], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=10)
    assert output == f"{process.pid} one two *\n"


def test_a_folder_is_named_after_what_the_server_says(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "root").mkdir(parents=True)
    (home / "root" / "tool").write_text("#!/bin/sh\necho Redis server v=1.2.4 sha=0\n")
    (home / "root" / "tool").chmod(0o755)
    row = Row("redis", "1.2.3", "tool")
    install.write_wrappers(row, home)
    assert install.prove(row, home) == "1.2.4"


def test_what_does_not_run_is_not_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tool").write_text(
        "#!/bin/sh\necho 'tool: libmissing.so: cannot open' >&2\nexit 127\n"
    )
    (tmp_path / "root" / "tool").chmod(0o755)
    row = Row("redis", "1.2.3", "tool")
    install.write_wrappers(row, tmp_path)
    with pytest.raises(NotToBeHad, match="libmissing"):
        install.prove(row, tmp_path)


@pytest.mark.parametrize(("ci", "required", "code"), [("", True, 0), ("true", True, 1), ("true", False, 0)])
def test_a_missing_server_is_named_and_counts_in_ci_if_required(
    ci: str,
    required: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("scripts.servers.debian.shutil.which", lambda _: None)
    row = Row("redis", "9.9.9", "server", debs=Debs("nowhere", ("redis",)), required=required)
    assert command.fetch([row], tmp_path, tmp_path / "cache") == code
    printed = capsys.readouterr().out
    assert "MISSING: it comes from Debian, and this machine has no apt-get and dpkg" in printed
    assert printed.splitlines()[-1] == "not to be had here: redis-9.9.9"


def test_the_line_that_says_most() -> None:
    assert (
        reason("Reading lists\nE: Unable to locate package x\nnote: more\n")
        == "E: Unable to locate package x"
    )
    assert reason("") == "it said nothing"
