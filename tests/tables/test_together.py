"""Events are taken apart many at a time: what comes of it is the same as of one after the other."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.tables import SCHEMA, Tables

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "-", "ONLINE", "107G", "12%"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def often(*values):
    return st.one_of(st.sampled_from(values), st.sampled_from(values), anything)


pool = st.fixed_dictionaries(
    {},
    optional={
        "size": often("107G", "1.41T", "-"),
        "alloc": often("13.1G", "0"),
        "capacity": often("12%", "91%"),
        "cap": often("12%"),
        "frag": often("6%", "-"),
        "dedup": often("1.00x"),
        "altroot": often("-", "/mnt", "ONLINE"),
        "health": often("ONLINE", "degraded", "1.00x"),
        "priority": often("6 - Critical"),
        "size_bytes": often(107 * 2**30, None),
        "alloc_bytes": often(13 * 2**30),
    },
)
state = st.fixed_dictionaries(
    {},
    optional={
        "hostname": often("nas", "box"),
        "hostnamechanged": often("true"),
        "priority": often("6 - Critical", 9),
        "updates": often({"status": "noupdates"}),
        "zpools": st.dictionaries(st.sampled_from(["tank", "zroot", "dozer"]), pool, max_size=3) | anything,
    },
)
notice = st.fixed_dictionaries(
    {},
    optional={
        "class": often("snapshot"),
        "priority": often("1 - Information"),
        "message": often(
            "Mon Nov 23 07:15:12 2026: New snapshot of tank/home", "Replicating a@b: 1G/4G (25%)"
        ),
    },
)
job = st.fixed_dictionaries(
    {"process_id": st.sampled_from(["a", "b"]), "state": st.sampled_from(["pending", "running", "finished"])},
    optional={
        "cmd_list": often(["ls"]),
        "ls": often("a\n", "b\n"),
        "time_started": often("2026-11-23T07:15:12"),
    },
)
frame = st.one_of(
    state.map(lambda args: wire.encode_event("system-state", args)),
    state.map(lambda args: wire.encode_event("system-state", args, 1_795_418_000_000_000)),
    notice.map(lambda args: wire.encode_event("life-preserver", args)),
    job.map(lambda args: wire.encode_event("dispatcher", args)),
    job.map(lambda args: wire.encode_event("dispatcher", {"process_details": args, "state": args["state"]})),
    st.dictionaries(st.just("tank"), pool).map(
        lambda pools: wire.encode("sysadm", "response", {"list_pools": pools}, "1")
    ),
    st.just("no frame"),
)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(frame, st.sampled_from(["nas", "box"]), st.sampled_from(["live", "last"])), max_size=12
    )
)
def test_together_as_one_by_one(frames):
    together, one_by_one = Tables(), Tables()
    for number, (text, server, origin) in enumerate(frames):
        for tables in (together, one_by_one):
            tables.append(text, received=1_795_418_100_000_000 + number, server=server, origin=origin)
        for name in SCHEMA:
            one_by_one[name]
    for name in SCHEMA:
        assert together.count(name) == one_by_one.count(name)
        # the order of categories is that in which they came to the column
        first, second = (tables[name].astype(object) for tables in (together, one_by_one))
        pd.testing.assert_frame_equal(first, second)
    newest, again = (sorted(map(repr, t.latest_pools().items())) for t in (together, one_by_one))
    assert newest == again
