"""A module for servers, compiled for the tests: it does nothing but be there, under a name and a version."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

# The part of the modules' interface that is needed: a server hands over RedisModule_GetApi, by which Init is found
# (documentation of Redis modules; the interface is the same in Valkey).
_SOURCE = """
typedef int (*GetApi)(const char *, void *);
typedef int (*SetAttribs)(void *, const char *, int, int);
int RedisModule_OnLoad(void *context) {
    GetApi find = (GetApi)((void **)context)[0];
    SetAttribs set;
    if (find("RedisModule_SetModuleAttribs", &set)) return 1;
    set(context, "%s", %d, 1);
    return 0;
}
"""


@cache
def module(name: str, version: int) -> Path:
    """The path of a module that loads; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for a module")
    folder = Path(tempfile.mkdtemp(prefix="sy-module-"))
    source, built = folder / "module.c", folder / f"{name}.so"
    source.write_text(_SOURCE % (name, version))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(built), str(source)], check=True, timeout=60)
    return built
