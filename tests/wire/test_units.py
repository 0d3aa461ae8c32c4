"""Sizes, percentages, priorities and times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("107G", 107 * 2**30),
        ("1.41T", 1.41 * 2**40),
        ("96K", 96 * 1024),
        ("512B", 512),
        ("512", 512),
        ("0", 0),
        ("9.63g", 9.63 * 2**30),
        ("1,5G", 1.5 * 2**30),
        ("1,234", 1234),
        ("1,234.5K", 1234.5 * 1024),
        (" 3.5 MiB ", 3.5 * 2**20),
        (7, 7),
        (1.5, 1.5),
    ],
)
def test_sizes(text, value):
    assert wire.parse_size(text) == value


@pytest.mark.parametrize("text", ["-", "", "??", "12 parsecs", None, True, [], {}, "1.2.3G", "١G"])
def test_no_size(text):
    assert math.isnan(wire.parse_size(text))


def test_percent_and_ratio():
    assert wire.parse_percent("12%") == 12
    assert wire.parse_percent("101.5 %") == 101.5
    assert wire.parse_percent(4) == 4
    assert math.isnan(wire.parse_percent("-"))
    assert math.isnan(wire.parse_percent("1.00x"))
    assert wire.parse_ratio("1.00x") == 1
    assert wire.parse_ratio("2.5X") == 2.5
    assert math.isnan(wire.parse_ratio("12%"))


@pytest.mark.parametrize(
    ("text", "number", "level"),
    [
        ("6 - Critical", 6, "Critical"),
        ("6/Critical", 6, "Critical"),
        ("3 / warning", 3, "Warning"),
        ("0 - INFO", 0, "Information"),
        ("9", 9, "Urgent"),
        (9, 9, "Urgent"),
        ("2", 2, "Information"),
        ("5", 5, "Warning"),
        ("8", 8, "Critical"),
        ("10 - Urgent", 10, "Urgent"),
        ("Critical", 6, "Critical"),
        ("7 - Sehr schlimm", 7, "Critical"),
    ],
)
def test_priorities(text, number, level):
    assert wire.parse_priority(text) == (number, level)


@pytest.mark.parametrize("text", ["", "-", "<number>/<category>", None, [], {}])
def test_no_priority(text):
    number, level = wire.parse_priority(text)
    assert math.isnan(number)
    assert level is None


# What OpenZFS prints, worked out by hand from its rule.
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1K"),
        (1536, "1.50K"),
        (10 * 2**40, "10T"),
        (int(9.99 * 2**40), "9.99T"),
        (int(93.9 * 2**30), "93.9G"),
        (int(412.3 * 2**30), "412G"),
        (2**50, "1P"),
    ],
)
def test_sizes_are_shown_as_zpool_list_does(value, text):
    assert wire.format_size(value) == text


@given(st.integers(0, 2**63))
def test_shown_sizes_are_read_back_within_their_three_digits(value):
    text = wire.format_size(value)
    assert len(text) <= 5
    assert wire.parse_size(text) == pytest.approx(value, rel=0.0051)


@given(st.one_of(st.text(), st.none(), st.floats(), st.integers(), st.lists(st.integers())))
def test_units_never_raise(value):
    for parse in (wire.parse_size, wire.parse_percent, wire.parse_ratio):
        assert isinstance(parse(value), float)
    wire.parse_priority(value)


@given(st.datetimes())
def test_times_are_read_back(moment):
    parsed = wire.parse_time(moment.isoformat())
    assert parsed is not None
    microseconds, zoned = parsed
    assert not zoned
    assert wire.to_datetime(microseconds).replace(tzinfo=None) == moment
    assert wire.parse_time(wire.format_time(microseconds)) == (microseconds, True)


@given(st.text())
def test_shell_text_has_no_controls(text):
    safe = wire.shell_text(text)
    assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in safe)
    assert "\n" not in wire.one_line(text)
    assert len(wire.one_line(text)) <= 160
