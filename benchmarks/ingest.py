"""How fast frames become rows of all tables, beside what bounds it and what people use instead.

    python -m benchmarks.ingest [--frames 60000] [--rounds 5]

The limit is decoding alone: every frame into typed structures by msgspec. Peers are a list of
dictionaries turned into a DataFrame, and ``pandas.json_normalize``; both only decode and flatten, they
know nothing of jobs, logs or units. Ours runs as it is and, where there is a C compiler, compiled as well.
Rounds alternate, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from benchmarks.compiled import ROOT, compiled_package
from benchmarks.stream import frames
from sysadm_nb.tables import Tables, intake
from sysadm_nb.wire.events import LifePreserver, SystemState


class _Dispatcher(msgspec.Struct, tag_field="name", tag="dispatcher", gc=False):
    namespace: str
    id: str
    args: dict[str, Any]


class _SystemState(msgspec.Struct, tag_field="name", tag="system-state", gc=False):
    namespace: str
    id: str
    args: SystemState


class _LifePreserver(msgspec.Struct, tag_field="name", tag="life-preserver", gc=False):
    namespace: str
    id: str
    args: LifePreserver


_decode = msgspec.json.Decoder(_Dispatcher | _SystemState | _LifePreserver).decode


def typed_decode(texts: list[str]) -> None:
    """The limit: decode each frame and drop it."""
    for text in texts:
        _decode(text)


def all_tables(texts: list[str]) -> None:
    """Ours: all eight tables, flushed, jobs and logs assembled."""
    tables = Tables()
    append = tables.append
    for number, text in enumerate(texts):
        append(text, received=1_795_418_100_000_000 + number * 1000, server="nas")
    tables.events, tables.jobs, tables.pools  # noqa: B018 - the snapshots flush what is gathered


def list_of_dicts(texts: list[str]) -> None:
    """Decode to dictionaries, one DataFrame of the envelopes at the end."""
    pd.DataFrame([json.loads(text) for text in texts])


def json_normalize(texts: list[str]) -> None:
    """Decode to dictionaries, flattened by pandas."""
    pd.json_normalize([json.loads(text) for text in texts])


def seconds(run: Callable[[list[str]], None], texts: list[str]) -> float:
    gc.collect()
    start = time.perf_counter()
    run(texts)
    return time.perf_counter() - start


def when_told(texts: list[str]) -> None:
    """Ours, once for each line that comes; prints the seconds."""
    for _ in sys.stdin:
        print(seconds(all_tables, texts), flush=True)


@contextmanager
def compiled(frames: int) -> Iterator[Callable[[], float] | None]:
    """The same source compiled, in a process of its own that runs when it is told to.

    ``None`` where there is no compiler, or where it is what runs here.
    """
    if not intake.__file__.endswith(".py"):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        print("compiling what fills the tables (a minute) ...", flush=True)
        try:
            site = compiled_package(Path(folder))
        except RuntimeError as error:
            print(
                "compiled it is not measured:", error if shutil.which("cc") else "there is no C compiler `cc`"
            )
            yield None
            return
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ingest", "--when-told", "--frames", str(frames)],
            cwd=site,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdin is not None and child.stdout is not None
            tell, answers = child.stdin, child.stdout

            def run() -> float:
                tell.write("go\n")
                tell.flush()
                return float(answers.readline())

            yield run


def main() -> None:
    """Run and print the table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--when-told", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    texts = frames(options.frames)
    if options.when_told:
        when_told(texts)
        return
    print(f"{len(texts)} frames of {sum(map(len, texts)) / len(texts):.0f} bytes on average")
    how = "interpreted" if intake.__file__.endswith(".py") else "compiled"
    with compiled(options.frames) as run_compiled:
        # json_normalize makes a column of every command text: a tenth of the frames is plenty.
        tenth = texts[: len(texts) // 10]
        runs: dict[str, Callable[[], float]] = {
            "msgspec typed decode (limit)": lambda: len(texts) / seconds(typed_decode, texts),
            f"Tables.append, {how}": lambda: len(texts) / seconds(all_tables, texts),
        }
        if run_compiled is not None:
            runs["Tables.append, compiled"] = lambda: len(texts) / run_compiled()
        runs |= {
            "json to list of dicts to DataFrame": lambda: len(texts) / seconds(list_of_dicts, texts),
            "json to pandas.json_normalize": lambda: len(tenth) / seconds(json_normalize, tenth),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                rates[name].append(run())
    limit = rates["msgspec typed decode (limit)"]
    print(f"{'':38}{'frames/s':>12}{'of the limit':>15}{'min':>7}{'max':>7}")
    for name, values in rates.items():
        ratios = [value / top for value, top in zip(values, limit, strict=True)]
        print(
            f"{name:38}{statistics.median(values):12,.0f}{statistics.median(ratios):15.3f}"
            f"{min(ratios):7.3f}{max(ratios):7.3f}"
        )


if __name__ == "__main__":
    main()
