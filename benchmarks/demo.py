"""How long a year of the demo machine takes, from the seed to the tables.

    python -m benchmarks.demo [--days 365] [--seed 1]

The peer is Python's own json module: reading and writing the very same frames with it and nothing else. A
ratio of 4 means that simulating six pools, their snapshots and a thousand jobs costs four times that.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from sysadm_nb.server.demo import frames
from sysadm_nb.tables import Tables


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def fill(made: list[tuple[int, str]]) -> Tables:
    """All tables from the frames, with their snapshots."""
    tables = Tables()
    for moment, text in made:
        tables.append(text, received=moment, server="demo", origin="backfill")
    tables.events, tables.jobs, tables.pools  # noqa: B018 - the snapshots flush what is gathered
    return tables


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=365)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    making, made = timed(lambda: list(frames(options.days, options.seed)))
    filling, tables = timed(lambda: fill(made))
    plain, _ = timed(lambda: [json.dumps(json.loads(text)) for _, text in made])
    size = sum(len(text) for _, text in made) / 1e6
    print(f"{options.days:g} days: {len(made):,} frames, {size:.0f} MB, {len(tables.pools):,} pool samples")
    for name, seconds in (("made", making), ("tables", filling)):
        pace = f"{options.days / seconds:8.0f} days a second"
        print(f"{name:<9} {seconds:6.2f} s   {seconds / plain:5.2f} × json   {pace}")
    print(f"json      {plain:6.2f} s")
    both = making + filling
    print(f"together  {both:6.2f} s: {options.days * 86_400 / both:,.0f} times real time")


if __name__ == "__main__":
    main()
