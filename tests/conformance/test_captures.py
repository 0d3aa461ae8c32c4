"""Every frame that was sent to the original server, sent to ours (or another), and the answers compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conformance.conftest import STATE, UnderTest
from tests.conformance.differences import DIFFERENCES, find
from tests.conformance.replay import WAIT, Player, Step, comparable, is_event, outcomes, sign, split, steps

JOBS_FOLDER = "/usr/local/share/jobs"

Make = Callable[..., UnderTest]


def adapted(step: Step, server: UnderTest) -> str | bytes:
    """A captured frame with the password, the folder and the user names of the server under test."""
    frame = step.frame
    if isinstance(frame, bytes) or "\n" in frame[:30] or len(frame) > 10_000:
        return frame
    frame = frame.replace(JOBS_FOLDER, str(server.jobs))
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        return frame
    args = value.get("args") if isinstance(value, dict) else None
    if isinstance(args, dict) and args.get("password") in ("", "secret"):
        # The original asked no password of a local user; ours has one for each.
        if args["username"] == "root" and not server.ours:
            args["username"] = next(iter(server.passwords))
        args["password"] = server.passwords[args["username"]]
        return json.dumps(value)
    return frame


def play(name: str, server: UnderTest, *, before: Callable[[Step], None] = lambda step: None) -> str:
    """Play a whole capture; returns what differed, in words."""
    different: list[str] = []
    seen: dict[str, list[str]] = {}
    for step in steps(name):
        before(step)
        player = server.player(step.connection)
        player.send(adapted(step, server))
        expected = _up_to_last_reply(step.came)
        wanted = sum(not is_event(frame) for frame in expected)
        got = player.replies(wanted) if wanted else []
        if problem := compare(name, step, expected, got, server):
            different.append(problem)
        for connection, frame in step.since:
            seen.setdefault(connection, []).append(frame)
        for connection, frames in seen.items():
            _await_jobs(server.player(connection), frames)
    return "\n".join(different)


def _up_to_last_reply(frames: list[str]) -> list[str]:
    replies = [i for i, frame in enumerate(frames) if not is_event(frame)]
    return frames[: replies[-1] + 1] if replies else []


def _await_jobs(player: Player, captured: list[str]) -> None:
    """Let a job end before the next request where it did so in the capture."""
    ended = {id: len(runs) for id, runs in outcomes([f for f in captured if not _cut(f)]).items()}
    ended.pop("sleeper", None)  # on ours these two end when they are killed
    ended.pop("sleeper2", None)

    def all_ended(frames: list[str]) -> bool:
        ours = outcomes(frames)
        return all(len(ours.get(id, [])) >= count for id, count in ended.items())

    player.until(all_ended)


def _cut(frame: str) -> bool:
    return not frame.endswith("}")


def compare(name: str, step: Step, expected: list[str], got: list[str], server: UnderTest) -> str | None:
    # Of events, only those that a subscribe sends again have a place; the others come when they come.
    keep = is_subscribe(step) and server.ours  # another has its own state, and tells of it when it likes
    ours = [normal(name, frame) for frame in got if keep or not is_event(frame)]
    theirs = [normal(name, frame) for frame in expected if keep or not is_event(frame)]
    ours = [frame for frame in ours if not _is_dispatcher_event(frame)]
    theirs = [frame for frame in theirs if not _is_dispatcher_event(frame)]
    row = find(name, step.id)
    if row is not None and ours and row.ours(ours):
        return None
    if ours == theirs:
        return None
    why = f" (a row of the table says: {row.why})" if row else ""
    return (
        f"{name}, {step.id or step.label!r}{why}:\n  theirs {str(theirs)[:400]}\n  ours   {str(ours)[:400]}"
    )


def is_subscribe(step: Step) -> bool:
    return isinstance(step.frame, str) and "subscribe" in step.frame.lower()


def _is_dispatcher_event(frame: Any) -> bool:
    return isinstance(frame[1], dict) and frame[1].get("name") == "dispatcher" and frame[1].get("id") == ""


def normal(name: str, frame: str) -> Any:
    if _cut(frame) or len(frame) > 100_000:
        return re.sub(r'"hostname":"[^"]*"', "", frame[:1000])[:200]
    prefix, value = comparable(frame)
    if isinstance(value["args"], dict) and isinstance(value["args"].get("jobs"), dict):
        # Which queues were used before does not matter.
        value["args"]["jobs"] = {queue: jobs for queue, jobs in value["args"]["jobs"].items() if jobs}
    if name == "06_read_logs" and isinstance(value, dict) and value.get("name") == "response":
        logged = told(value["args"])
        return [prefix, value["args"] if logged is None else logged]
    return [prefix, value]


def told(args: Any) -> Any:
    """What the entries of a `read_logs` reply tell of, by log."""
    if not isinstance(args, dict) or not all(isinstance(entries, dict) for entries in args.values()):
        return None
    found: dict[str, Any] = {}
    for log, entries in args.items():
        texts = [entry for key, entry in sorted(entries.items()) if key]
        if log == "events-dispatcher":
            ended = [e for e in texts if e.get("state") == "finished"]
            found[log] = [e["process_id"] for e in ended]
        elif log == "dispatcher":
            found[log] = [json.loads(text)["process_id"] for text in texts]
        elif log == "hostinfo":
            found[log] = texts
        else:
            found[log] = "entries"
    return found


# --- the captures -------------------------------------------------------------------------------------------


def test_login(under_test: Make) -> None:
    server = under_test()
    # of users and pools that only our server is sure to have
    others = ("a3", "a9", "q7", "a10", "a11", "q8", "l8", "z1", "z2")
    tokens: dict[str, str] = {}
    original: dict[str, str] = {}

    def before(step: Step) -> None:
        # Tokens are made up anew: put ours where the capture used theirs.
        for old, id in original.items():
            if isinstance(step.frame, str) and old in step.frame:
                step.frame = step.frame.replace(old, tokens[id])
        for frame in step.came:
            args = json.loads(frame)["args"]
            if isinstance(args, list):
                original[args[0]] = step.id

    different = []
    for step in steps("01_auth"):
        if step.id in others and not server.ours:
            continue
        before(step)
        player = server.player(step.connection)
        player.send(adapted(step, server))
        got = player.replies(len(step.came))
        for frame in got:
            value = json.loads(frame)
            if isinstance(value["args"], list):
                assert value["args"][1] == 900 or not server.ours  # seconds the token lives
                tokens[value["id"]] = value["args"][0]
        if problem := compare("01_auth", step, step.came, got, server):
            different.append(problem)
    assert not different, "\n".join(different)


def test_a_forbidden_request_ends_the_connection(under_test: Make) -> None:
    server = under_test()
    if not server.ours:
        pytest.skip("needs an operator")
    assert play("01c_forbidden", server) == ""
    player = server.player()
    assert player.receive(5) is None
    assert player.closed == (1000, "Too Many Authorization Failures - Try again later")


def test_key_login(under_test: Make) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    server = under_test()
    if not server.ours:
        pytest.skip("registers a key")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    register = server.player("registrar")
    register.send(_request("rpc", "auth", {"username": "root", "password": "secret"}))
    register.send(
        _request(
            "rpc",
            "settings",
            {"action": "register_ssl_cert", "pub_key": pem.decode(), "nickname": "clientkey"},
        )
    )
    assert [split(frame)[1]["name"] for frame in register.replies(2)] == ["response", "response"]
    key, checksum = [""], [""]
    challenge = [""]

    different = []
    for step in steps("01d_auth_ssl"):
        player = server.player()
        frame = str(step.frame)
        if step.id == "st2":
            frame = json.dumps(
                json.loads(frame) | {"args": {"encrypted_string": sign(private, challenge[0])}}
            )
        player.send(frame)
        got = player.replies(1)
        if step.id == "st1":
            challenge[0] = split(got[0])[1]["args"]["test_string"]
        ours, theirs = got, step.came
        if step.id in ("l1", "l2"):
            ours, theirs = (
                [_without_key(f, which) for f in frames] for frames, which in ((got, key), (theirs, checksum))
            )
        if problem := compare("01d_auth_ssl", step, theirs, ours, server):
            different.append(problem)
    assert not different, "\n".join(different)


def _without_key(frame: str, _: list[str]) -> str:
    frame = re.sub(r"LS0tLS1CRUdJ[A-Za-z0-9+/=]+", "<key>", frame)
    frame = re.sub(r'"md5_keys":\["[A-Za-z0-9+/=]{24}"\]', '"md5_keys":["<checksum>"]', frame)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "<time>", frame)


def _request(namespace: str, name: str, args: Any, id: str = "q") -> str:
    return json.dumps({"namespace": namespace, "name": name, "id": id, "args": args})


def test_subscriptions(under_test: Make) -> None:
    server = under_test()

    def before(step: Step) -> None:
        if step.id == "s1" and server.ours:
            server.server.publish("system-state", STATE)

    assert play("02_subscribe", server, before=before) == ""
    jobs = outcomes(server.player().frames)
    assert [run.logs for run in jobs["twice"]] == [{"echo once": "once\n"}]
    assert [run.logs for run in jobs["aftclear"]] == [{"echo aftclear": "aftclear\n"}]


def test_generic_jobs(under_test: Make) -> None:
    server = under_test()

    def before(step: Step) -> None:
        killed = {"l4": "sleeper", "l5": "sleeper2"}.get(step.id)
        if killed:
            server.player().until(
                lambda frames: killed in outcomes(frames), timeout=WAIT if server.ours else 2
            )

    assert play("03a_dispatcher_generic", server, before=before) == ""
    expected = outcomes([f for step in steps("03a_dispatcher_generic") for f in step.came if not _cut(f)])
    ours = outcomes([frame.replace(str(server.jobs), JOBS_FOLDER) for frame in server.player().frames])
    if server.ours:
        # `echo $HOME 'x y'`: single quotes are quotes here
        assert expected["quotes"][0].logs.pop("echo $HOME 'x y'") == "$HOME 'x y'\n"
        assert ours["quotes"][0].logs.pop("echo $HOME 'x y'") == "$HOME x y\n"
        assert [run.codes for run in ours.pop("sleeper")] == [{"sleep 30": "15"}]
        assert [run.codes for run in ours.pop("sleeper2")] == [{"sleep 30": "15"}]
        burst = ours.pop("burst")[0].logs[f"{JOBS_FOLDER}/burst.sh"]
        assert len(burst.splitlines()) == 60
    else:  # the scripts of the capture, what is a matter of taste, and when a job is killed
        scripts = {id for id, runs in expected.items() if JOBS_FOLDER in str(runs)}
        for id in {"quotes", "burst", "sleeper", "sleeper2"} | scripts:
            ours.pop(id, None)
            expected.pop(id, None)
    assert ours == expected


def test_jobs_of_subsystems(under_test: Make) -> None:
    server = under_test()
    if not server.ours:
        pytest.skip("needs the scripts of the capture")
    assert play("03b_dispatcher_subsystem_ids", server) == ""
    captured = [f for step in steps("03b_dispatcher_subsystem_ids") for f in step.came if not _cut(f)]
    expected = outcomes(captured)
    frames = [frame.replace(str(server.jobs), JOBS_FOLDER) for frame in server.player().frames]
    ours = outcomes(frames)
    expected.pop("sleeper"), expected.pop("sleeper2")  # left over from the capture before
    ours.pop("sysadm_pkg_remove-{10}", None)  # killed; the capture ends before its end
    burst = ours.pop("sysadm_update_runupdates::{5}")[0]
    assert len(burst.logs[f"{JOBS_FOLDER}/burst.sh"].splitlines()) == 60
    percent = "sysadm_iohyve_fetch::{6}"
    # printf of coreutils and of the machine of the capture read "% o" differently
    assert ours.pop(percent)[0].codes == expected.pop(percent)[0].codes
    assert ours == expected
    assert class_fields(frames, expected) == class_fields(captured, expected)


def class_fields(frames: list[str], of: dict[str, Any]) -> dict[str, Any]:
    """The fields beside the process in the finished events of subsystems."""
    found = {}
    for frame in frames:
        args = split(frame)[1]["args"]
        details = args.get("process_details") if isinstance(args, dict) else None
        if details and args["state"] == "finished" and "event_system" in args and details["process_id"] in of:
            fields = {
                key: value for key, value in args.items() if key not in ("process_details", "process_id")
            }
            found[details["process_id"]] = fields
    return found


def test_logs(under_test: Make) -> None:
    server = under_test()
    if not server.ours:
        pytest.skip("needs the clock of the capture")
    began = datetime(2026, 11, 23, 7, 24, 37, 30_000, tzinfo=UTC).timestamp()

    def before(step: Step) -> None:
        server.machine.time = int((began + step.time) * 1e6)
        if re.fullmatch("r[0-3]", step.id) and "run" in str(step.frame):
            server.server.publish("system-state", STATE)
            message = f"Mon Nov 23 07:24:37 UTC 2026: New snapshot of pool{step.id[1]}"
            event = {"class": "snapshot", "message": message, "priority": "1 - Information"}
            server.server.publish("life-preserver", event)

    different = []
    for step in steps("06_read_logs"):
        before(step)
        server.player().send(adapted(step, server))
        got = server.player().replies(1)
        if problem := compare("06_read_logs", step, step.came, got, server):
            different.append(problem)
        if "run" in str(step.frame):
            _wait_for_log(server, step)
    assert not different, "\n".join(different)


def _wait_for_log(server: UnderTest, step: Step) -> None:
    """The capture left the job two seconds to end; ask until its end is in the log."""
    job = next(key for key in json.loads(step.frame)["args"] if key != "action")
    for _ in range(1000):
        server.player().send(_request("rpc", "logs", {"action": "read_logs", "logs": "events-dispatcher"}))
        logged = told(split(server.player().replies(1)[0])[1]["args"])
        if logged and job in logged["events-dispatcher"]:
            return
    raise AssertionError(f"{job} is not in the log")


def test_malformed_frames(under_test: Make) -> None:
    server = under_test()
    assert play("07a_malformed", server) == ""
    long_ids = [split(frame)[1]["id"] for frame in server.player().frames if len(frame) > 100_000]
    assert [len(id) for id in long_ids] == [1_000_000] * 2


def test_order_of_replies(under_test: Make) -> None:
    server = under_test()
    all_steps = list(steps("07b_order_ping"))
    pipelined = [step for step in all_steps if re.fullmatch("p[0-9]", step.id)]
    slow = [step for step in all_steps if step.id in ("slow", "fast", "ident")]
    player = server.player()
    player.send(adapted(all_steps[0], server))
    player.replies(1)
    for step in pipelined:
        player.send(step.frame)
    assert sorted(split(frame)[1]["id"] for frame in player.replies(10)) == [f"p{i}" for i in range(10)]
    if not server.ours:
        return  # who knows what is slow there
    for step in slow:
        player.send(step.frame)
    assert [split(frame)[1]["id"] for frame in player.replies(3)][-1] == "slow"
    assert player.connection.ping().wait(10)
    player.connection.send(['{"namespace":"rpc","name":', '"identify","id":"frag",', '"args":{}}'])
    assert split(player.replies(1)[0])[1]["id"] == "frag"


def test_only_messages_keep_a_connection(under_test: Make) -> None:
    server = under_test(idle_timeout=1.2, token_life=0.6)
    if not server.ours:
        pytest.skip("needs short time-outs")
    first, second, *_ = steps("08a_timeouts_short")
    player = server.player()
    for step in (first, second):
        player.send(adapted(step, server))
        player.replies(1)
    server.server.publish("system-state", STATE)
    assert player.connection.ping().wait(10)
    player.until(lambda frames: player.closed is not None, timeout=5)
    assert player.closed == (1000, "")
    assert sum(is_event(frame) for frame in player.frames) == 1


def test_the_table_has_no_idle_rows() -> None:
    played = {
        (name, step.id)
        for name in ("01_auth", "01d_auth_ssl", "02_subscribe", "03a_dispatcher_generic", "06_read_logs",
                     "07a_malformed", "07b_order_ping")
        for step in steps(name)
    }  # fmt: skip
    assert [request for row in DIFFERENCES for request in row.requests if request not in played] == []


@pytest.mark.parametrize("name", ["04_system_state", "05_life_preserver"])
def test_what_a_source_reports_arrives_as_it_is(under_test: Make, name: str) -> None:
    """The captured events are published where they came, and must come the same; the last to who is late."""
    server = under_test()
    if not server.ours:
        pytest.skip("needs events at given moments")
    different = []
    for step in steps(name):
        player = server.player(step.connection)
        player.send(adapted(step, server))
        replies = _up_to_last_reply(step.came)
        got = player.replies(sum(not is_event(frame) for frame in replies))
        if step.id != "logs" and (problem := compare(name, step, replies, got, server)):
            different.append(problem)
        if step.id == "logs":
            different.extend(_logs_differ(step, got[-1]))
        for frame in [frame for _, frame in step.since][len(replies) :]:
            value = split(frame)[1]
            server.server.publish(value["name"], value["args"])
            came = server.player("A").receive(WAIT)
            if came is None or normal(name, came) != normal(name, frame):
                different.append(f"{name}: {frame[:200]} came as {str(came)[:200]}")
    assert "\n".join(different) == ""


def _logs_differ(step: Step, ours: str) -> list[str]:
    """Every entry of the original's log is in ours (which keeps those of the same second too)."""
    theirs, kept = split(step.came[-1])[1]["args"], split(ours)[1]["args"]
    return [
        f"{log} lacks {str(entry)[:200]}"
        for log, entries in theirs.items()
        for key, entry in entries.items()
        if key and entry not in kept.get(log, {}).values()
    ]
