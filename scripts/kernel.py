"""Compiles the engine's hot path, migrations_app/engine/kernel.py, beside itself: `python -m scripts.kernel`.

The file is Cython in its pure-Python mode, so that the same file also runs interpreted. Where it cannot be compiled this says
so and goes on: the engine works without, only more slowly. An old compiled file never stays beside a newer source.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

KERNEL = Path(__file__).resolve().parents[1] / "migrations_app" / "engine" / "kernel.py"


def main(kernel: Path = KERNEL) -> int:
    for stale in kernel.parent.glob(f"{kernel.stem}.*.so"):
        stale.unlink()
    if not kernel.is_file():
        return 0
    try:
        compiled = build(kernel)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        print(
            f"{kernel.name} is not compiled and runs interpreted, more slowly: {said.strip()[-2000:]}",
            file=sys.stderr,
        )
        return 0
    print(f"compiled {compiled.name}")
    return 0


def build(kernel: Path) -> Path:
    """Returns the compiled module. Raises OSError or SubprocessError if it cannot be made."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise OSError(f"there is no C compiler ({compiler[0]}) on this machine")
    # What distutils' build_ext would say; it is not in every Python's environment any more.
    link = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")[1:]
    flags = shlex.split(sysconfig.get_config_var("CCSHARED") or "-fPIC")
    written = kernel.stat().st_mtime_ns
    with tempfile.TemporaryDirectory(dir=kernel.parent, prefix=".build-") as name:
        source = Path(name, f"{kernel.stem}.c")
        output = source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
        _run([sys.executable, "-m", "cython", "-3", str(kernel), "-o", str(source)])
        include = [f"-I{sysconfig.get_path(path)}" for path in ("include", "platinclude")]
        _run([*compiler, *link, *flags, "-O3", "-w", *include, str(source), "-o", str(output)])
        # Its source's time: an edit while this was compiling is seen as one.
        os.utime(output, ns=(written, written))
        return output.replace(kernel.with_name(output.name))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)


if __name__ == "__main__":
    sys.exit(main())
