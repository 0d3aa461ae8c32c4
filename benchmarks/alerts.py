"""Rules over a million pool rows: the evaluator beside the same logic row by row in Python.

    python -m benchmarks.alerts

Prints rows a second for 20 rules, the ratio to the row-by-row peer, and the live rate in batches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from sysadm_nb.alerts import Evaluator, Rules, absent
from sysadm_nb.alerts.backtest import backtest

MINUTE = 60_000_000


def pool_rows(rows: int, pools: int = 200, seed: int = 7) -> pd.DataFrame:
    """Samples of pools every 15 minutes: slow growth, noise, rare bad health, a few missed samples."""
    rng = np.random.default_rng(seed)
    samples = -(-rows // pools)
    step = np.repeat(np.arange(samples), pools)
    pool = np.tile(np.arange(pools), samples)
    start, rise = rng.uniform(30, 80, pools), rng.uniform(-5, 25, pools)
    used = start[pool] + rise[pool] * step / samples + rng.normal(0, 0.1, len(step))
    times = 1_767_225_600_000_000 + step * 15 * MINUTE
    health = np.where(rng.random(len(step)) < 2e-4, 1, 0)
    frame = pd.DataFrame(
        {
            "seq": step + 1,
            "time": pd.to_datetime(times, unit="us", utc=True).as_unit("us"),
            "server": pd.Categorical.from_codes(pool % 20, [f"nas{i}" for i in range(20)]),
            "pool": pd.Categorical.from_codes(pool // 20, [f"tank{i}" for i in range(-(-pools // 20))]),
            "capacity_pct": np.clip(used, 0, 100),
            "frag_pct": np.clip(used * 0.6, 0, 100),
            "dedup_ratio": 1.0,
            "free_bytes": (100 - used) * 2**34,
            "health": pd.Categorical.from_codes(health, ["ONLINE", "DEGRADED"]),
        }
    )
    return frame[rng.random(len(frame)) > 1e-3].iloc[:rows].reset_index(drop=True)


# name, measured column, comparison, threshold, for_ minutes, end of hysteresis
SETTINGS: list[tuple[str, str, str, float, int, float | None]] = [
    *[(f"over {t}", "capacity_pct", ">", t, 30, None) for t in (60, 70, 75, 80, 85, 90, 95)],
    *[(f"over {t} until {t - 5}", "capacity_pct", ">", t, 60, t - 5) for t in (70, 75, 80, 85, 90)],
    *[(f"frag {t}", "frag_pct", ">", t, 0, None) for t in (40, 45, 50, 55)],
    *[(f"free under {t}", "free_bytes", "<", t * 2**34, 15, None) for t in (5, 10, 15)],
    ("dedup", "dedup_ratio", "<", 0.99, 0, None),
]


def make_rules() -> Rules:
    """The 20 rules."""
    rules = Rules()
    for name, column, sign, threshold, minutes, end in SETTINGS:
        until = None if end is None else f"{column} < {end}"
        rules.add(name, table="pools", when=f"{column} {sign} {threshold}", for_=f"{minutes}min", until=until)
    return rules


def row_by_row(frame: pd.DataFrame) -> int:
    """The same 20 rules, one row after another: a loop and a dictionary, as anybody would write it."""
    tests: list[tuple[str, Callable[[float], bool], int, Callable[[float], bool]]] = []
    for _, column, sign, threshold, minutes, end in SETTINGS:
        when = (lambda v, t=threshold: v > t) if sign == ">" else (lambda v, t=threshold: v < t)
        clear = (lambda v, w=when: not w(v)) if end is None else (lambda v, e=end: v < e)
        tests.append((column, when, minutes * MINUTE, clear))
    states: list[dict[Any, list[Any]]] = [{} for _ in tests]
    incidents = []
    columns = ["time", "server", "pool", "capacity_pct", "frag_pct", "free_bytes", "dedup_ratio"]
    plain = frame[columns].assign(time=frame["time"].dt.tz_localize(None).to_numpy().astype("int64"))
    for at, server, pool, *values in zip(*(plain[c].tolist() for c in columns), strict=True):
        row = dict(zip(columns[3:], values, strict=True))
        key = (server, pool)
        for (column, when, hold, clear), known in zip(tests, states, strict=True):
            value, state = row[column], known.get(key)
            if state is not None and at - state[2] > 45 * MINUTE:
                if state[1] is not None:
                    state[1]["resolved"] = state[2] + 45 * MINUTE
                del known[key]
                state = None
            if state is None:
                if when(value):
                    state = known[key] = [at, None, at, 0, value]
                else:
                    continue
            state[2] = at
            if state[1] is None:
                if not when(value):
                    del known[key]
                    continue
                if at - state[0] >= hold:
                    state[1] = {"began": state[0], "fired": at, "resolved": None, "key": key}
                    incidents.append(state[1])
            elif clear(value):
                state[1]["resolved"] = at
                del known[key]
                continue
            state[3] += 1
            state[4] = max(state[4], value)
    return len(incidents)


def best(run: Callable[[], object], times: int) -> float:
    """CPU seconds of the fastest of several runs: the machine may have other things to do."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return min(found)


def live(frame: pd.DataFrame, batch: int) -> float:
    """Rows a second when they come in batches, with a tick after each."""
    rules = make_rules()
    rules.add("silent", absent("pools", after="45min"))
    rules.remove("dedup")
    evaluator = Evaluator(rules)
    pieces = [frame.iloc[i : i + batch].reset_index(drop=True) for i in range(0, len(frame), batch)]
    stamps = [int(p["time"].iloc[-1].value) // 1000 - 10_000_000 for p in pieces]
    begun = time.process_time()
    for piece, stamp in zip(pieces, stamps, strict=True):
        evaluator.feed({"pools": piece})
        evaluator.tick(stamp)
    return len(frame) / (time.process_time() - begun)


def main(argv: Iterable[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args(None if argv is None else list(argv))
    frame = pool_rows(args.rows)
    rules = make_rules()
    found = len(backtest(rules, frame))
    ours = best(lambda: backtest(rules, frame), 5)
    few = frame.iloc[: max(len(frame) // 5, 1)]
    peer = best(lambda: row_by_row(few), 3) * len(frame) / len(few)
    same = row_by_row(few) == len(backtest(rules, few))
    print(f"{len(rules)} rules over {len(frame):,} pool rows: {found:,} incidents")
    print(f"  backtest              {ours:8.2f} s   {len(frame) / ours:12,.0f} rows/s")
    print(f"  row by row in Python  {peer:8.2f} s   {len(frame) / peer:12,.0f} rows/s   (a fifth, scaled)")
    print(f"  ratio                 {peer / ours:8.1f} x   (wanted: at least 20)   same incidents: {same}")
    print(f"live, {len(rules)} rules, one core, tick after each batch (wanted: at least 20,000 rows/s)")
    for batch, count in ((1, 500), (200, 40_000), (1000, 200_000), (5000, 400_000)):
        rate = live(frame.iloc[:count], batch)
        print(f"  batches of {batch:>5}      {rate:12,.0f} rows/s")
    early, late = frame.iloc[:100_000], frame.iloc[-100_000:]
    print(f"  first and last 100,000 rows: {live(early, 1000):,.0f} and {live(late, 1000):,.0f} rows/s")


if __name__ == "__main__":
    main()
