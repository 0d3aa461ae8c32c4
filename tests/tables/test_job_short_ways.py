"""The short ways that most events take come to the same as the long way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb.tables import jobs as jobs_module
from sysadm_nb.tables.jobs import Jobs
from sysadm_nb.wire.events import dispatcher

if not jobs_module.__file__.endswith(".py"):
    pytest.skip("compiled classes can't be derived from: only the source shows this", allow_module_level=True)


class LongWay(Jobs):
    """Takes every event for one about which nothing is known."""

    def _is_delta(self, *args):
        return False

    def _only_run(self, process_id, state, listed, started, details, lead):
        return None


DETAILS = {
    "process_id": "p",
    "state": "running",
    "cmd_list": ["make", "make install"],
    "time_started": "2026-11-23T07:15:43",
    "make": "a\n",
    "return_codes/make": "0",
    "current_cmd": "make install",
    "make install": "b\n",
}
ARGS = {"state": "running", "action": "upgrade", "event_system": "sysadm/pkg"}
MISSING = object()
CHANGES = {  # in the details; what servers send, and nearly so
    "process_id": ("q", 7, MISSING),
    "state": ("pending", "finished", "b", MISSING),
    "cmd_list": (["make"], ["make install", "make"], ["make", "make"], ["state", "make"], "make", MISSING),
    "time_started": ("2026-11-23T07:15:44", 7, MISSING),
    "time_finished": ("2026-11-23T07:15:45",),
    "make": ("ab\n", "", "a\nb\n", 7, None, MISSING),
    "return_codes/make": ("1", None, MISSING),
    "current_cmd": ("make", "rm", MISSING),
    "make install": ("", "a\n", "a\nc\n", 7, None, MISSING),
    "return_codes/make install": ("0", "2"),
}
AROUND = {  # in the arguments around them
    "state": ("pending", "finished", 7, MISSING),
    "action": ("remove", MISSING),
    "event_system": ("sysadm/update", MISSING),
    "percent_done": ("10%", "20%", "-", None),
}
one_change = st.one_of(
    *(
        st.tuples(st.just(where), st.just(name), st.sampled_from(values))
        for where, changes in ((0, CHANGES), (1, AROUND))
        for name, values in changes.items()
    )
)
one_event = st.tuples(
    st.lists(one_change, max_size=2),
    st.sampled_from(["", "", "", "", "flat", "bare", "begin"]),
    st.sampled_from(["live", "live", "live", "backfill"]),
)


def arguments(changes, form):
    """An event's arguments with some changes made; what begins a run is made from the same."""
    details, args = dict(DETAILS), dict(ARGS)
    if form == "begin":
        args["state"] = details["state"] = "pending"
        for name in ("time_started", "make", "return_codes/make", "current_cmd", "make install"):
            del details[name]
    for where, name, value in changes:
        target = (details, args)[where]
        target.pop(name, None)
        if value is not MISSING:
            target[name] = value
    if form == "bare":
        return {key: value for key, value in details.items() if key in ("process_id", "state")}
    return details if form == "flat" else args | {"process_details": details}


@settings(max_examples=1000)
@given(st.lists(one_event, min_size=2, max_size=10))
def test_every_run_looks_the_same(stream):
    short, long = Jobs(2**20), LongWay(2**20)
    for number, (changes, form, origin) in enumerate(stream):
        time = 1_795_418_100_000_000 + number - 5 * (origin == "backfill")
        lead = (number, time, time, "nas", origin)
        job, other = (jobs.take(dispatcher(arguments(changes, form)), lead) for jobs in (short, long))
        assert (job is None) == (other is None)
        if job is not None:
            assert repr(job.row()) == repr(other.row())
            assert repr(job.command_rows()) == repr(other.command_rows())
            assert job.told == other.told and job.version == other.version
    assert [repr(job.row()) for job in short] == [repr(job.row()) for job in long]


def test_more_log_and_percentages_take_the_short_way(monkeypatch):
    """Or the test above says nothing."""
    taken = []
    delta = Jobs._is_delta
    monkeypatch.setattr(Jobs, "_is_delta", lambda *args: taken.append(delta(*args)) or taken[-1])
    jobs = Jobs(2**20)
    details = {"process_id": "p", "state": "running", "time_started": "t", "current_cmd": "make"}
    details["cmd_list"] = ["make"]
    for number, (log, percent) in enumerate(((None, "1%"), ("a\n", "2%"), ("b\n", "3%"), ("c\n", "3%"))):
        said = details if log is None else details | {"make": log}
        args = {"process_details": dict(said), "state": "running", "percent_done": percent}
        job = jobs.take(dispatcher(args), (number, number, number, "nas", "live"))
    assert taken == [False, True, True]
    assert job.log == "a\nb\nc\n" and job.percent_done == 3 and job.shaped == 2


def test_the_first_log_after_a_command_that_said_nothing():
    """The first command of many chains prints nothing; the second's first log is not one more delta."""
    details = DETAILS | {"make": ""}
    quiet = {key: value for key, value in details.items() if key != "make install"}
    for kind in (Jobs, LongWay):
        jobs = kind(2**20)
        for number, said in enumerate((quiet, quiet, details, details | {"make install": "c\n"})):
            args = ARGS | {"process_details": dict(said)}
            job = jobs.take(dispatcher(args), (number, number, number, "nas", "live"))
        assert job.log == "b\nc\n"
