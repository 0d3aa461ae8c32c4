"""Reading frames: the captures, the document's own examples, and anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sysadm_nb import wire

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_an_event_of_a_real_server():
    event = wire.decode(
        '{"args":{"process_id":"one","state":"running"},"id":"","name":"dispatcher","namespace":"events"}'
    )
    assert isinstance(event, wire.Event)
    assert (event.name, event.args, event.id, event.time) == (
        "dispatcher",
        {"process_id": "one", "state": "running"},
        "",
        None,
    )
    assert event.text == '{"process_id":"one","state":"running"}'


@pytest.mark.parametrize("name", ["life_preserver", "life-preserver"])
def test_the_documented_form_of_an_event(name):
    text = json.dumps(
        {
            "namespace": "events",
            "name": name,
            "id": "none",
            "args": {"message": "text", "priority": "3/Warning", "class": "snapshot"},
        },
        indent=1,
    )
    event = wire.decode(text)
    assert (event.name, event.id) == ("life-preserver", "none")
    assert event.args == {"message": "text", "priority": "3/Warning", "class": "snapshot"}
    assert (event.said.message, event.said.kind) == ("text", "snapshot")


def test_time_in_the_envelope():
    text = wire.encode_event("dispatcher", {"state": "running"}, time=1_795_418_100_000_001)
    assert text.endswith('"time":"2026-11-23T07:15:00.000001Z"}')
    assert wire.decode(text).time == 1_795_418_100_000_001
    spaced = json.dumps(json.loads(text), indent=2)
    assert wire.decode(spaced).time == 1_795_418_100_000_001


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00.000000+14:00", "9999-12-31T23:59:59.999999-14:00"])
def test_a_time_that_no_datetime_can_hold_is_none(time):
    frame = wire.encode_event("dispatcher", {}, time=0)
    assert wire.decode(frame.replace("1970-01-01T00:00:00.000000Z", time)).time is None


def test_time_without_a_zone_is_not_believed():
    frame = wire.encode_event("dispatcher", {}, time=0).replace("000000Z", "000000")
    assert wire.decode(frame).time is None


def test_replies_and_errors():
    reply = wire.decode('{"args":["token",0],"id":"a7","name":"response","namespace":"rpc"}')
    assert isinstance(reply, wire.Reply)
    assert (reply.id, reply.namespace, reply.args) == ("a7", "rpc", ["token", 0])
    assert "token" not in repr(reply)
    real = wire.decode(
        '{"args":{"code":"401","message":"Unauthorized"},"id":"q0","name":"error","namespace":"error"}'
    )
    documented = wire.decode(
        '{"args":{"code":401,"message":"Unauthorized"},"id":"q0","name":"error","namespace":"rpc"}'
    )
    for error in (real, documented):
        assert isinstance(error, wire.ErrorReply)
        assert (error.id, error.code, error.message) == ("q0", 401, "Unauthorized")


def test_a_reply_to_subscribe_is_no_event():
    reply = wire.decode(
        '{"args":{"subscribe":"system-state"},"id":"s5","name":"response","namespace":"events"}'
    )
    assert isinstance(reply, wire.Reply)


def test_a_peer_asks():
    request = wire.decode(
        '{"args":"","id":"sysadm_bridge_request_ident","name":"identify","namespace":"rpc"}'
    )
    assert isinstance(request, wire.Request)
    assert (request.namespace, request.name, request.args) == ("rpc", "identify", "")


def test_relayed_frames():
    text = wire.encode_event("dispatcher", {"state": "running", "process_id": "a"})
    for packed in (False, True):
        event = wire.decode(wire.encode_relay("::{peer}", text, packed))
        assert isinstance(event, wire.Event)
        assert (event.peer, event.args["process_id"]) == ("::{peer}", "a")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "not a JSON object"),
        ("hello", "not a JSON object"),
        ("[1,2]", "not a JSON object"),
        ("{", "broken JSON"),
        ("{}", "no namespace and name"),
        ('{"namespace":"events"}', "no namespace and name"),
        ('{"args":{"a":1,"id":"","name":"dispatcher","namespace":"events"}', "broken JSON"),
    ],
)
def test_malformed_frames_keep_their_text(frame, reason):
    message = wire.decode(frame)
    assert isinstance(message, wire.Malformed)
    assert message.text == frame
    assert message.reason.startswith(reason)


def test_what_only_looks_like_the_fast_form():
    frame = '{"args":{"a":1},"more":2,"id":"","name":"dispatcher","namespace":"events"}'
    event = wire.decode(frame)
    assert isinstance(event, wire.Event)
    assert event.args == {"a": 1}


def test_lone_surrogates_become_replacement_characters():
    event = wire.decode('{"args":{"x":"\\ud800"},"id":"","name":"dispatcher","namespace":"events"}')
    assert event.args == {"x": "?"}
    assert event.text.encode()


def test_wrong_types_in_a_system_state():
    pools = {"tank": 7, "ok": {"size": "1G", "size_bytes": "x"}}
    frame = wire.encode_event("system-state", {"hostname": 5, "zpools": pools})
    event = wire.decode(frame)
    assert event.said.zpools["ok"].size == "1G"
    assert event.said.zpools["ok"].size_bytes is None
    assert event.args["zpools"]["tank"] == 7


# What servers send, with anything in its place.
pool = st.dictionaries(
    st.sampled_from(["size", "capacity", "health", "size_bytes", "frag", "x"]), json_values
)
told = st.fixed_dictionaries(
    {},
    optional={
        "process_details": st.dictionaries(st.sampled_from(["process_id", "state", "ls"]), json_values),
        "state": st.sampled_from(["running", "finished"]) | json_values,
        "zpools": st.dictionaries(st.sampled_from(["tank", "ä"]), pool) | json_values,
        "hostname": st.just("nas") | json_values,
        "message": st.text() | json_values,
        "class": json_values,
    },
)


@given(st.sampled_from(["dispatcher", "system-state", "life-preserver"]), told | json_values)
def test_the_order_of_keys_does_not_matter(name, args):
    """Real servers sort them; the document does not, and such frames are read another way."""
    text = wire.dump_json(args)
    event = wire.decode(wire.encode_event(name, args))
    other = wire.decode(f'{{"namespace":"events","name":"{name}","id":"","args":{text}}}')
    assert isinstance(event, wire.Event) and isinstance(other, wire.Event)
    assert event.text == other.text
    assert repr(event.said) == repr(other.said)


def test_what_nobody_reads_of_a_job_is_checked_all_the_same():
    frame = '{"args":{"pkg_log":"\\x","process_details":{}},"id":"","name":"dispatcher","namespace":"events"}'
    assert isinstance(wire.decode(frame), wire.Malformed)
    assert isinstance(wire.decode(frame.replace("\\x", "\\n")), wire.Event)


@given(json_values)
def test_any_json_value(value):
    message = wire.decode(json.dumps(value))
    assert isinstance(message, wire.Malformed | wire.Event | wire.Request | wire.Reply | wire.ErrorReply)


@given(st.text())
@example("\n{}")
@example("::{x}\n{")
@example("a\n\x00")
def test_any_text(text):
    wire.decode(text)
    wire.decode_request(text)


@given(st.binary())
def test_any_bytes(data):
    wire.decode(data)
    wire.decode_request(data)


@given(st.sampled_from(["dispatcher", "system-state", "life-preserver", "bridge", "news"]), json_values)
def test_any_arguments_of_an_event(name, args):
    event = wire.decode(wire.encode_event(name, args))
    assert isinstance(event, wire.Event)
    assert event.name == name
    assert wire.parse_json(event.text) == wire.parse_json(wire.dump_json(args))


def test_deep_nesting_is_no_way_to_stop_the_reader():
    deep = "[" * 100_000 + "]" * 100_000
    for frame in (deep, f'{{"args":{deep},"id":"","name":"dispatcher","namespace":"events"}}'):
        assert isinstance(wire.decode(frame), wire.Malformed)


def test_a_server_reads_as_deep_as_real_ones_do():
    def nested(depth: int) -> str:
        return f'{{"namespace":"rpc","name":"identify","id":"d","args":{"[" * depth}{"]" * depth}}}'

    assert isinstance(wire.decode_request(nested(600)), wire.Request)
    for depth in (1024, 2000, 9000, 100_000):
        assert isinstance(wire.decode_request(nested(depth)), wire.BadRequest)
    flat = f'{{"namespace":"rpc","name":"identify","args":[{",".join(["[]"] * 3000)}]}}'
    assert isinstance(wire.decode_request(flat), wire.Request)
    assert isinstance(wire.decode_request('"' + "[" * 3000 + '"'), wire.BadRequest)


@given(json_values, st.text(), st.text(min_size=1))
def test_encode_is_read_back(args, id, name):
    text = wire.encode("sysadm", name, args, id)
    request = wire.decode_request(text)
    assert isinstance(request, wire.Request)
    assert request.name == wire.scrub(name)
    assert request.id == wire.scrub(id)


def test_requests_as_a_server_reads_them():
    missing = wire.decode_request('{"namespace":"rpc","name":"dispatcher","id":"noargs","action":"list"}')
    assert missing.args["action"] == "list"
    for id in ("5", "null", "{}", '""'):
        assert wire.decode_request(f'{{"namespace":"rpc","name":"identify","id":{id}}}').id == ""
    for text, prefix in {
        "hello": "hello",
        "": "",
        "\n": "",
        '\n{"namespace":"rpc","name":"identify"}': "",
        "[1]": "[1]",
        ' {"namespace":"rpc","name":"identify"}': ' {"namespace":"rpc","name":"identify"}',
    }.items():
        bad = wire.decode_request(text)
        assert isinstance(bad, wire.BadRequest), text
        assert bad.prefix == prefix
    assert isinstance(wire.decode_request('{"namespace":"rpc","name":"identify"}\n'), wire.Request)
    assert isinstance(wire.decode_request('{"namespace":"rpc","name":"identify"} '), wire.BadRequest)
    assert wire.decode_request('{"namespace":"rpc","name":5,"id":"m3","args":{}}').id == "m3"


def test_every_captured_frame_is_understood(captures):
    for name in ("01_", "01c", "01d", "02", "03a", "03b", "04", "05", "06", "07a", "07b", "08a", "09a"):
        for record in captures(name):
            if record["dir"] != "in" or record.get("truncated"):
                continue
            message = wire.decode(record["frame"])
            assert not isinstance(message, wire.Malformed), record["frame"]
