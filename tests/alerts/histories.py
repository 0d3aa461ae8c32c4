"""Random histories and rules for the property tests."""

from __future__ import annotations

import pandas as pd
from hypothesis import strategies as st

from sysadm_nb.alerts import Rule, absent

START = 1_767_225_600_000_000  # 2026-01-01 UTC
MINUTE = 60_000_000


def times(values: list[int]) -> pd.Series:
    return pd.Series(pd.to_datetime(values, unit="us", utc=True)).dt.as_unit("us")


@st.composite
def histories(draw: st.DrawFn) -> dict[str, pd.DataFrame]:
    """Rows of three tables in one order of arrival: late rows, clocks set back, gaps, backfill, repeats."""
    pools, jobs, connection = [], [], []
    clock = {"nas": START, "vault": START}
    for seq in range(1, draw(st.integers(1, 60)) + 1):
        server = draw(st.sampled_from(["nas", "vault"]))
        step = draw(st.sampled_from([0, 1, 5, 15, 15, 15, 15, 44, 45, 46, 120, -1, -20, -200]))
        clock[server] += step * MINUTE
        kind = draw(st.sampled_from(["pools", "pools", "pools", "pools", "jobs", "connection"]))
        origin = draw(st.sampled_from(["live", "live", "live", "live", "polled", "backfill", "last"]))
        lead = {"seq": seq, "time": clock[server], "server": server, "origin": origin}
        if kind == "pools":
            for pool in draw(st.sampled_from([["tank"], ["tank", "dozer"], ["tank"]])):
                used = draw(st.sampled_from([70.0, 74.0, 78.0, 81.0, 85.0, 91.0, float("nan")]))
                health = draw(st.sampled_from(["ONLINE", "ONLINE", "DEGRADED", None]))
                pools.append(lead | {"pool": pool, "capacity_pct": used, "health": health})
        elif kind == "jobs":
            state = draw(st.sampled_from(["pending", "running", "finished"]))
            process = draw(st.sampled_from(["a", "b"]))
            failed = draw(st.booleans())
            jobs.append(lead | {"process_id": process, "run": 1, "state": state, "failed": failed})
        else:
            what = draw(st.sampled_from(["lost", "connected", "gap"]))
            length = draw(st.sampled_from([1, 30, 46, 300])) * MINUTE
            gap = what == "gap"
            start = clock[server] - length
            ends = {"gap_start": start if gap else None, "gap_end": clock[server] if gap else None}
            connection.append(lead | {"origin": "live", "what": what} | ends)
    return {"pools": table(pools), "jobs": table(jobs), "connection": table(connection)}


def table(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for name in frame.columns.intersection(["time", "gap_start", "gap_end"]):
        frame[name] = pd.to_datetime(frame[name], unit="us", utc=True).astype("datetime64[us, UTC]")
    for name in frame.columns.intersection(["server", "origin", "pool", "health", "state", "what"]):
        frame[name] = frame[name].astype("category")
    return frame


def risen(rows: pd.DataFrame) -> bool:
    used = rows["capacity_pct"]
    return bool(used.iloc[-1] - used.min() > 5)


def many_rows(rows: pd.DataFrame) -> pd.Series:
    return pd.Series([len(rows) >= 3] * len(rows))


durations = st.sampled_from([0, "15min", "30min", "45min", "1h"])
gaps = st.sampled_from(["45min", "45min", "20min", "3h", None])


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    """One to five rules of all kinds."""
    makers = [
        lambda n: Rule(n, "pools", "capacity_pct > 80", for_=draw(durations), max_gap=draw(gaps)),
        lambda n: Rule(
            n,
            "pools",
            "capacity_pct > 80",
            until="capacity_pct < 75",
            for_=draw(durations),
            keep_for=draw(st.sampled_from([None, "15min", "1h"])),
            max_gap=draw(gaps),
            message="{pool} {value:.1f} {health}",
        ),
        lambda n: Rule(n, "pools", "health != 'ONLINE'", keep_for="30min", by=["pool"]),
        lambda n: Rule(n, "pools", "capacity_pct < 75", for_="15min", by=[]),
        lambda n: Rule(n, "pools", lambda d: d["capacity_pct"] > 80, for_=draw(durations)),
        lambda n: Rule(n, "pools", risen, window="1h"),
        lambda n: Rule(n, "pools", many_rows, window=draw(st.sampled_from(["31min", "2h"]))),
        lambda n: Rule(n, "pools", "change(capacity_pct) > 5", window=draw(st.sampled_from(["30min", "2h"]))),
        lambda n: Rule(n, "pools", "highest(capacity_pct) - lowest(capacity_pct) > 10", window="1h"),
        lambda n: Rule(n, "pools", "per_day(capacity_pct) > 100", window="1h", for_=draw(durations)),
        lambda n: Rule(n, "pools", absent("pools", after=draw(st.sampled_from(["15min", "45min"])))),
        lambda n: Rule(n, "pools", absent("pools", by=["server"], after="30min", where="capacity_pct > 80")),
        lambda n: Rule(n, "jobs", "state == 'running'", for_=draw(durations), max_gap=draw(gaps)),
        lambda n: Rule(n, "jobs", "failed", until="state == 'running'", keep_for="15min"),
        lambda n: Rule(n, "connection", "what == 'lost'", for_="15min", until="what == 'connected'"),
    ]
    chosen = draw(st.lists(st.sampled_from(makers), min_size=1, max_size=5))
    return [make(f"rule {i}") for i, make in enumerate(chosen)]
