"""How long a DataFrame of a million events takes when a hundred rows are new.

    python -m benchmarks.snapshot [--rows 1000000] [--rounds 5]

Beside it: building the same frame from a list of dictionaries, and from ``json_normalize`` of the frames
(of a hundredth of them, scaled), which is what it takes without tables. A second line of ours is the case in
which a row came late (a life-preserver message is dated to the second, before what arrived meanwhile): the
columns are put in order again then, which costs a copy of the numbers.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.stream import frames
from sysadm_nb.tables import Tables


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call, with the garbage of the one before out of the way."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Run and print the table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = [text for text in frames(20_000) if "life-preserver" not in text]
    tables = Tables(max_rows=2 * options.rows)
    # Small arguments: the million rows should not be about memory for text.
    for number in range(options.rows):
        text = texts[number % len(texts)] if number % 50 == 0 else _SMALL
        tables.append(text, received=1_795_418_100_000_000 + number * 1000, server="nas")
    rows = tables.events.to_dict("records")
    print(f"{len(rows):,} events")
    ours: list[float] = []
    late: list[float] = []
    dicts: list[float] = []
    normalize: list[float] = []
    number = options.rows
    for _ in range(options.rounds):
        for _ in range(100):
            number += 1
            tables.append(_SMALL, received=1_795_418_100_000_000 + number * 1000, server="nas")
        ours.append(timed(lambda: tables.events))
        dicts.append(timed(lambda: pd.DataFrame(rows)))
        sample = texts[: max(len(rows) // 100, 1)]
        scale = len(rows) / len(sample)
        normalize.append(scale * timed(lambda part=sample: pd.json_normalize([json.loads(t) for t in part])))
    for _ in range(options.rounds):
        for step in range(100):
            number += 1 if step else -50
            tables.append(_SMALL, received=1_795_418_100_000_000 + number * 1000, server="nas")
        number += 60
        late.append(timed(lambda: tables.events))
    base = statistics.median(ours)
    print(f"{'':44}{'ms':>12}{'times ours':>12}")
    for name, values in (
        ("Tables.events after 100 new rows", ours),
        ("the same where one of them is late", late),
        ("pandas.DataFrame(list of dicts)", dicts),
        ("pandas.json_normalize (a hundredth, scaled)", normalize),
    ):
        middle = statistics.median(values)
        print(f"{name:44}{middle * 1e3:12,.2f}{middle / base:12,.0f}")


_SMALL = '{"args":{"process_id":"job","state":"running"},"id":"","name":"news","namespace":"events"}'

if __name__ == "__main__":
    main()
