"""What recording costs, and what opening a part of a long recording costs beside reading it all.

    python -m benchmarks.recording [--frames 100000] [--rounds 3] [--long 300000] [--folder DIR]

Recording: the same frames go into the tables on the loop thread, with and without a recorder behind, until
the last of them is committed; the promise is at least half of the rate. Opening: a recording of ``--long``
frames spread over a year is read whole, and its last day alone; the promise is under 2 % of the time at ten
million frames (``--long 10000000`` takes 15 GB of disk and about ten minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import statistics
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.stream import START, frames
from sysadm_nb import loop
from sysadm_nb.recording import Recorder, open_recording
from sysadm_nb.recording.writer import Frame, Writer
from sysadm_nb.tables import Tables

BEGIN = 1_763_856_000_000_000  # a year before 2026-11-23, in microseconds
YEAR = 365 * 86_400 * 1_000_000
TURN = 50  # frames that a socket gives at once


def ingest(handle: loop.LoopThread, texts: list[str], path: Path | None) -> tuple[float, float]:
    """Seconds until all frames are in the tables, and committed if recorded: by the clock, of processor."""
    tables = Tables()
    recorder = None if path is None else Recorder(path)

    async def feed() -> None:
        received = BEGIN
        for start in range(0, len(texts), TURN):
            for text in texts[start : start + TURN]:
                received += 1000
                tables.append(text, received=received, server="nas")
                if recorder is not None:
                    recorder.frame(text, received, "nas", "live")
            await asyncio.sleep(0)
            if recorder is not None and recorder._queued > 32 * 2**20:
                await recorder.flush()  # measured is a rate that lasts
        if recorder is not None:
            await recorder.flush()

    try:
        clock, processor = time.perf_counter(), time.process_time()
        handle.run(feed(), None)
        return time.perf_counter() - clock, time.process_time() - processor
    finally:
        if recorder is not None:
            recorder.close()
            assert recorder.written == len(texts), recorder
            assert not recorder.lost


def cost(folder: Path, count: int, rounds: int) -> None:
    texts = frames(count)
    print(f"{count:,} frames of {sum(map(len, texts)) / count:.0f} bytes on average")
    by_clock: list[float] = []
    by_processor: list[float] = []
    handle = loop.acquire()
    ingest(handle, texts[:5000], None)
    for number in range(rounds):
        path = folder / f"cost{number}.sysadm"
        took = {}
        # The order changes, and a round has each twice: other programs slow both down alike.
        for recorded in (False, True, True, False) if number % 2 else (True, False, False, True):
            gc.collect()
            clock, processor = ingest(handle, texts, path if recorded else None)
            if recorded:
                size = path.stat().st_size
                path.unlink()
            before = took.get(recorded, (0.0, 0.0))
            took[recorded] = (before[0] + clock, before[1] + processor)
        by_clock.append(took[False][0] / took[True][0])
        by_processor.append(took[False][1] / took[True][1])
        print(
            f"  tables alone {2 * count / took[False][0]:9,.0f} frames/s, recorded as well "
            f"{2 * count / took[True][0]:9,.0f}: {by_clock[-1]:.2f} of it "
            f"(of processor time {by_processor[-1]:.2f}); {size / count:,.0f} bytes a frame on disk"
        )
    handle.release()
    print(
        f"rate with recording, of the rate without: {statistics.median(by_clock):.2f} (at least 0.50); "
        f"on a single core it would be {statistics.median(by_processor):.2f}"
    )


_ID = re.compile(r"(sysadm_pkg_upgrade-\{[0-9a-f]+-\d+)")
_ISO = re.compile(r'(?<="time_started":")[^"]+|(?<="time_finished":")[^"]+')
_DATE = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d UTC \d{4}")


def aged(texts: list[str], cycle: int, begin_us: int) -> list[str]:
    """The same hours again at another time: other process ids, and dates that fit."""
    shift = datetime.fromtimestamp(begin_us / 1e6, UTC) - START

    def iso(found: re.Match[str]) -> str:
        return (datetime.fromisoformat(found[0]) + shift).strftime("%Y-%m-%dT%H:%M:%S")

    def date(found: re.Match[str]) -> str:
        then = datetime.strptime(found[0], "%a %b %d %H:%M:%S UTC %Y") + shift
        return then.strftime("%a %b %d %H:%M:%S UTC %Y")

    out = []
    for text in texts:
        if '"name":"dispatcher"' in text:
            text = _ISO.sub(iso, _ID.sub(rf"\1-{cycle}", text))
        elif '"name":"life-preserver"' in text:
            text = _DATE.sub(date, text)
        out.append(text)
    return out


def build(path: Path, count: int) -> None:
    texts = frames(min(count, 20_000))
    step = YEAR / count
    writer = Writer(path)
    begin = time.perf_counter()
    for first in range(0, count, len(texts)):
        start_us = BEGIN + int(first * step)
        cycle = aged(texts, first, start_us)[: count - first]
        for at in range(0, len(cycle), 5_000):
            writer.write(
                [
                    Frame(text, start_us + int((at + number) * step), "nas", "live")
                    for number, text in enumerate(cycle[at : at + 5_000])
                ]
            )
    writer.close()
    took = time.perf_counter() - begin
    size = path.stat().st_size / 1e9
    print(
        f"built {count:,} frames over a year in {took:.0f} s ({count / took:,.0f}/s), {size:.1f} GB",
        flush=True,
    )


def part(folder: Path, count: int) -> None:
    path = folder / "long.sysadm"
    build(path, count)
    seconds = {}
    for name, start in (("last day", "1d"), ("all", None), ("last day again", "1d")):
        gc.collect()
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tables keep a million rows of it
            past = open_recording(path, start=start)
        seconds[name] = time.perf_counter() - begin
        print(f"  {name:15} {seconds[name]:9.3f} s, {past.tables.count('events'):>12,} frames", flush=True)
        del past
    path.unlink()
    share = seconds["last day again"] / seconds["all"]
    print(f"last day, of the time of reading all: {share:.2%} (under 2 % of ten million)")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.frames:
            cost(Path(folder), options.frames, options.rounds)
        if options.long:
            part(Path(folder), options.long)


if __name__ == "__main__":
    main()
