"""Following a log over everything that is done to logs: no line lost, none twice, all in order."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb.server.life_preserver.follow import CHUNK, LogFollower, Position


def lines_of(follower: LogFollower) -> list[str]:
    return [line for lines in follower.read() for line in lines]


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "lpreserver.log"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_lines_as_they_come(log):
    follower = LogFollower(log)
    assert lines_of(follower) == []
    append(log, "one\ntwo\n")
    assert lines_of(follower) == ["one", "two"]
    assert lines_of(follower) == []
    append(log, "three\n")
    assert lines_of(follower) == ["three"]


def test_a_line_written_in_two_parts_is_one_line(log):
    follower = LogFollower(log)
    append(log, "first\nCreating snap")
    assert lines_of(follower) == ["first"]
    append(log, "shot on tank\n")
    assert lines_of(follower) == ["Creating snapshot on tank"]


def test_character_written_in_two_parts(log):
    follower = LogFollower(log)
    log.write_bytes("tänk".encode()[:2])
    assert lines_of(follower) == []
    log.write_bytes("tänk\n".encode())
    assert lines_of(follower) == ["tänk"]


def test_what_is_there_at_first_can_be_left_out(log):
    append(log, "old\nolder\nhalf")
    follower = LogFollower(log)
    follower.skip_to_end()
    append(log, " a line\nnew\n")
    assert lines_of(follower) == ["half a line", "new"]


def test_rotation_as_lpreserver_does(log):
    """Copy, then truncate with one line: what was written just before is in the copy only."""
    follower = LogFollower(log)
    append(log, "Mon 1: a\nMon 2: b\n")
    assert lines_of(follower) == ["Mon 1: a", "Mon 2: b"]
    append(log, "Mon 3: c\n")
    shutil.copy(log, log.with_name("lpreserver.log.old"))
    log.write_text("Mon 4: Rotate Logfile\n")
    append(log, "Mon 5: d\n")
    assert lines_of(follower) == ["Mon 3: c", "Mon 4: Rotate Logfile", "Mon 5: d"]


def test_truncated_and_grown_past_the_old_size(log):
    follower = LogFollower(log)
    append(log, "Mon 1: a\n")
    assert lines_of(follower) == ["Mon 1: a"]
    log.write_text("Mon 2: b\nMon 3: c\n")
    assert lines_of(follower) == ["Mon 2: b", "Mon 3: c"]


def test_removed_and_made_again(log):
    follower = LogFollower(log)
    append(log, "Mon 1: a\n")
    assert lines_of(follower) == ["Mon 1: a"]
    log.unlink()
    assert lines_of(follower) == []
    append(log, "Mon 2: b\n")
    assert lines_of(follower) == ["Mon 2: b"]


@pytest.mark.parametrize(
    ("suffix", "opened"), [("", open), (".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)]
)
def test_rotated_twice_and_compressed_while_nobody_looked(log, suffix, opened):
    append(log, "Mon 1: a\n")
    follower = LogFollower(log)
    assert lines_of(follower) == ["Mon 1: a"]
    saved = follower.position.to_json()
    append(log, "Mon 2: b\nMon 3: torn")
    with opened(log.with_name(f"{log.name}.1{suffix}"), "wb") as file:
        file.write(log.read_bytes())
    os.utime(log.with_name(f"{log.name}.1{suffix}"), (1000, 1000))
    log.write_text("Mon 4: d\n")
    log.rename(log.with_name(f"{log.name}.0"))
    os.utime(log.with_name(f"{log.name}.0"), (2000, 2000))
    log.write_text("Mon 5: e\n")
    again = LogFollower(log, Position.from_json(saved))
    assert lines_of(again) == ["Mon 2: b", "Mon 3: torn", "Mon 4: d", "Mon 5: e"]


def test_the_log_that_was_read_is_gone_and_only_newer_copies_are_left(log):
    append(log, "Mon 1: a\n")
    follower = LogFollower(log)
    assert lines_of(follower) == ["Mon 1: a"]
    read_at = log.stat().st_mtime_ns
    for number, age, text in ((2, -1, "Sun 0: older\n"), (1, 1, "Tue: b\n"), (0, 2, "Wed: c\n")):
        copy = log.with_name(f"{log.name}.{number}")
        copy.write_text(text)
        os.utime(copy, ns=(read_at + age, read_at + age))
    log.write_text("Thu: d\n")
    assert lines_of(follower) == ["Tue: b", "Wed: c", "Thu: d"]


def test_other_files_beside_it_are_not_its_copies(log):
    follower = LogFollower(log)
    append(log, "Mon 1: a\n")
    assert lines_of(follower) == ["Mon 1: a"]
    for name in ("lpreserver.log.pid", "lpreserver.logger", "other.log.0"):
        (log.parent / name).write_text("Mon 1: a\nMon 2: x\n")
    log.write_text("Mon 3: c\n")
    assert lines_of(follower) == ["Mon 3: c"]


def test_zero_bytes_of_a_writer_that_does_not_append(log):
    follower = LogFollower(log)
    log.write_bytes(b"\0" * 100 + b"Mon 1: a\n")
    assert lines_of(follower) == ["Mon 1: a"]


def test_torn_compressed_copy_is_no_error(log):
    follower = LogFollower(log)
    append(log, "Mon 1: a\n")
    lines_of(follower)
    log.with_name(f"{log.name}.0.gz").write_bytes(gzip.compress(b"Mon 1: a\nMon 2: b\n")[:-9])
    log.write_text("Mon 3: c\n")
    assert lines_of(follower)[-1] == "Mon 3: c"


def test_damaged_compressed_copy_is_no_error(log):
    follower = LogFollower(log)
    append(log, "Mon 1: a\n")
    lines_of(follower)
    copy = bytearray(gzip.compress(b"Mon 1: a\nMon 2: b\n" + bytes(range(256)) * 8))
    copy[12:40] = b"\xff" * 28
    log.with_name(f"{log.name}.0.gz").write_bytes(copy)
    log.write_text("Mon 3: c\n")
    assert lines_of(follower) == ["Mon 3: c"]
    append(log, "Mon 4: d\n")
    assert lines_of(follower) == ["Mon 4: d"]


def test_carriage_returns_of_a_progress_meter_end_lines(log):
    follower = LogFollower(log)
    append(log, "10%\r20%\r\n30")
    assert lines_of(follower) == ["10%", "20%"]


def test_a_large_log_comes_in_pieces(log):
    text = "".join(f"line {number}\n" for number in range(300_000))
    log.write_text(text)
    pieces = list(LogFollower(log).read())
    assert len(pieces) == -(-len(text) // CHUNK)
    assert list(itertools.chain(*pieces)) == text.split("\n")[:-1]


@pytest.mark.parametrize("saved", [None, {}, {"head": "zz", "offset": 1}, {"head": 3, "offset": "x"}, []])
def test_a_position_that_cannot_be_read_is_the_beginning(saved):
    assert Position.from_json(saved) == Position()


STEPS = st.lists(
    st.sampled_from(["line", "part", "lines", "read", "restart", "rename", "copy", "gzip"]), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_history_of_a_log_gives_every_line_once(steps):
    """Lines, half lines, rotations of every kind and restarts of the reader, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        numbers, clock = itertools.count(1), itertools.count(time.time_ns() + 10**9, 1000)
        written: list[str] = []
        found: list[str] = []
        half = ""
        follower = LogFollower(log)
        follower.skip_to_end()

        def touch(path: Path) -> None:
            now = next(clock)
            os.utime(path, ns=(now, now))

        def write(text: str) -> None:
            append(log, text)
            touch(log)

        def write_lines(count: int) -> None:
            nonlocal half
            for _ in range(count):
                line = f"{next(numbers):03} {'x' * 40}"
                written.append(half + line)
                half = ""
                write(line + "\n")

        for step in steps:
            if step == "part":
                part = f"{next(numbers):03} half "
                half += part
                write(part)
            elif step in ("line", "lines"):
                write_lines(5 if step == "lines" else 1)
            elif step == "read":
                found += lines_of(follower)
            elif step == "restart":
                follower = LogFollower(log, Position.from_json(follower.position.to_json()))
            elif log.exists() and log.stat().st_size:
                copy = log.with_name(f"log.{next(numbers)}")
                if half:  # its end never comes
                    written.append(half.strip())
                    half = ""
                if step == "rename":
                    log.rename(copy)
                elif step == "copy":
                    shutil.copy(log, copy)
                    touch(copy)
                    log.write_text("")
                    touch(log)
                elif step == "gzip":
                    copy = copy.with_name(copy.name + ".gz")
                    copy.write_bytes(gzip.compress(log.read_bytes()))
                    touch(copy)
                    log.unlink()
        write_lines(1)
        found += lines_of(follower)
        assert [line.strip() for line in found] == written
