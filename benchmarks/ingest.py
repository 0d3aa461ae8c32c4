"""How fast frames become rows of all tables, beside what bounds it and what people use instead.

    python -m benchmarks.ingest [--frames 60000] [--rounds 5]

The limit is decoding alone: every frame into typed structures by msgspec. Peers are a list of
dictionaries turned into a DataFrame, and ``pandas.json_normalize``; both only decode and flatten, they
know nothing of jobs, logs or units. Rounds alternate, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pandas as pd

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


def main() -> None:
    """Run and print the table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = frames(options.frames)
    how = "interpreted (`make compile` compiles them)" if intake.__file__.endswith(".py") else "compiled"
    print(f"{len(texts)} frames of {sum(map(len, texts)) / len(texts):.0f} bytes on average; tables {how}")
    # json_normalize makes a column of every command text: a tenth of the frames is plenty.
    runs: list[tuple[str, Callable[[list[str]], None], list[str]]] = [
        ("msgspec typed decode (limit)", typed_decode, texts),
        ("Tables.append, all tables", all_tables, texts),
        ("json to list of dicts to DataFrame", list_of_dicts, texts),
        ("json to pandas.json_normalize", json_normalize, texts[: len(texts) // 10]),
    ]
    rates: dict[str, list[float]] = {name: [] for name, _, _ in runs}
    for _ in range(options.rounds):
        for name, run, sample in runs:
            gc.collect()
            start = time.perf_counter()
            run(sample)
            rates[name].append(len(sample) / (time.perf_counter() - start))
    limit = rates[runs[0][0]]
    print(f"{'':38}{'frames/s':>12}{'of the limit':>15}{'min':>7}{'max':>7}")
    for name, values in rates.items():
        ratios = [value / top for value, top in zip(values, limit, strict=True)]
        print(
            f"{name:38}{statistics.median(values):12,.0f}{statistics.median(ratios):15.3f}"
            f"{min(ratios):7.3f}{max(ratios):7.3f}"
        )


if __name__ == "__main__":
    main()
