"""The process that atheris runs in: `python -m tests.fuzz.fuzzer FOLDER ENTRY LIBFUZZER-ARGUMENTS…`."""

from __future__ import annotations

import gc
import sys
from types import FunctionType

from tests.engine import fuzzing

from . import entries


def instrument() -> int:
    """Count the branches of the engine's functions, of the interpreted kernel above all. Returns how many functions there are."""
    import atheris

    fuzzing.worlds()  # the interpreted one is loaded beside the other, past every hook
    functions = [
        found
        for found in gc.get_objects()
        if isinstance(found, FunctionType) and (found.__module__ or "").startswith("migrations_app.engine.")
    ]
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def main(folder: str, entry: str, *arguments: str) -> None:
    sys.path.insert(0, folder)
    import atheris

    print(f"{instrument()} functions are watched")

    @atheris.instrument_func  # type: ignore[untyped-decorator, unused-ignore] # atheris has no types
    def one_input(data: bytes) -> None:
        entries.run(entry, data)

    with fuzzing.fixed_clock():
        atheris.Setup([sys.argv[0], *arguments], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
