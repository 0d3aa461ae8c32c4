"""The logs of zfs send, pv, syncoid and zrepl, line by line."""

# ruff: noqa: E501 (lines of logs, as long as they are)

from __future__ import annotations

import pytest

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.pv import PvLog
from sysadm_nb.server.life_preserver.syncoid import SyncoidLog
from sysadm_nb.server.life_preserver.transfer import SILENCE
from sysadm_nb.server.life_preserver.zfs_send import ZfsSendLog
from sysadm_nb.server.life_preserver.zrepl import ZreplLog, read_line

NOW = notices.When("Mon Nov 23 07:21:06 UTC 2026", 1795418466000000)


def feed(parser, *lines: str) -> list[str]:
    """The messages, without their date."""
    return [
        notice.args["message"].removeprefix(f"{NOW.text}: ")
        for line in lines
        for notice in parser.feed(line, NOW)
    ]


def idle(parser) -> list[str]:
    return [notice.args["message"].removeprefix(f"{NOW.text}: ") for notice in parser.idle(SILENCE, NOW)]


# --- zfs send -----------------------------------------------------------------------------------------------

# the send log of the capture 05_life_preserver
CAPTURED = [
    "send from auto-2026-11-22-00-00-00 to tank@auto-2026-11-23-00-00-00 estimated size is 4.20G",
    "total estimated size is 4.20G",
    "TIME        SENT   SNAPSHOT",
    "07:25:01    128M   tank@auto-2026-11-23-00-00-00",
    "07:25:02    512M   tank@auto-2026-11-23-00-00-00",
    "07:25:03    512M   tank@auto-2026-11-23-00-00-00",
    "07:25:04   1.00G   tank@auto-2026-11-23-00-00-00",
    "07:25:06   4.20G   tank@auto-2026-11-23-00-00-00",
    "07:25:07   4.31G   tank@auto-2026-11-23-00-00-00",
]
PROGRESS = [
    "Replicating tank@auto-2026-11-23-00-00-00: 128M/4.20G (2.9%)",
    "Replicating tank@auto-2026-11-23-00-00-00: 512M/4.20G (11.9%)",
    "Replicating tank@auto-2026-11-23-00-00-00: 1.00G/4.20G (23.8%)",
    "Replicating tank@auto-2026-11-23-00-00-00: 4.20G/4.20G (100%)",
    "Replicating tank@auto-2026-11-23-00-00-00: 4.31G/4.20G (102.6%)",
]


def test_progress_of_the_captured_send_log():
    assert feed(ZfsSendLog("/log", only_progress=True), *CAPTURED) == PROGRESS


def test_a_send_log_of_its_own_has_a_beginning_and_an_end():
    parser = ZfsSendLog("/var/log/send.log")
    assert feed(parser, *CAPTURED) == ["Starting replication for tank", *PROGRESS]
    assert parser.idle(SILENCE - 1, NOW) == []
    assert idle(parser) == ["Finished replication for tank"]
    assert idle(parser) == []


def test_failed_send():
    parser = ZfsSendLog("/var/log/send.log")
    feed(parser, *CAPTURED[:4])
    assert feed(parser, "warning: cannot send 'tank@auto-1': signal received") == [
        "Replication Failed for tank\nLogfile available at: /var/log/send.log"
    ]
    assert feed(parser, "warning: cannot send 'tank@auto-1': signal received") == []
    assert idle(parser) == []


def test_unknown_total():
    assert feed(ZfsSendLog("/log"), "full send of tank@a", "07:25:01    128M   tank@a") == [
        "Starting replication for tank",
        "Replicating tank@a: 128M/??",
    ]


def test_each_of_several_snapshots_is_measured_by_its_own_size():
    lines = [
        "full send of tank/home@a estimated size is 1.00G",
        "send from @a to tank/home@b estimated size is 100M",
        "total estimated size is 1.10G",
        "TIME        SENT   SNAPSHOT tank/home@a",
        "07:25:01    512M   tank/home@a",
        "TIME        SENT   SNAPSHOT tank/home@b",
        "07:25:09   50.0M   tank/home@b",
    ]
    assert feed(ZfsSendLog("/log"), *lines) == [
        "Starting replication for tank/home",
        "Replicating tank/home@a: 512M/1.00G (50%)",
        "Replicating tank/home@b: 50.0M/100M (50%)",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["full\ttank@b\t1073741824", "size\t1073741824", "07:25:01\t536870912\ttank@b"],
        ["incremental\ta\ttank@b\t1073741824", "size\t1073741824", "07:25:01\t536870912\t4096\ttank@b"],
    ],
)
def test_exact_numbers(lines):
    assert feed(ZfsSendLog("/log"), *lines)[-1] == "Replicating tank@b: 512M/1G (50%)"


def test_blocks_column_of_a_very_verbose_send():
    lines = ["full send of tank@b estimated size is 1G", "07:25:01    512M        4096    tank@b"]
    assert feed(ZfsSendLog("/log"), *lines)[-1] == "Replicating tank@b: 512M/1G (50%)"


def test_a_size_behind_a_tab_is_no_error():
    lines = ["full send of tank@b estimated size is 1G", "07:25:01   512M   \ttank@b"]
    assert feed(ZfsSendLog("/log"), *lines)[-1] == "Replicating tank@b: 512M/1G (50%)"


def test_two_sends_in_one_log():
    parser = ZfsSendLog("/log")
    feed(parser, "full send of tank/a@x estimated size is 1G", "07:25:01    512M   tank/a@x")
    assert feed(parser, "full send of tank/b@x estimated size is 1G") == [
        "Finished replication for tank/a",
        "Starting replication for tank/b",
    ]


# --- pv -----------------------------------------------------------------------------------------------------

# written by pv 1.6.20 -f -p -t -e -r -b -s 30000000
METER = [
    "11.4MiB 0:00:01 [11.4MiB/s] [============>                     ] 40% ETA 0:00:01",
    "22.9MiB 0:00:02 [11.4MiB/s] [==========================>       ] 80% ETA 0:00:00",
    "28.6MiB 0:00:02 [11.6MiB/s] [================================>] 100%            ",
]


def test_meter():
    parser = PvLog("/var/log/tank-home.log")
    assert feed(parser, *METER) == [
        "Starting replication for tank-home",
        "Replicating tank-home: 11.4M/?? (40%)",
        "Replicating tank-home: 22.9M/?? (80%)",
        "Replicating tank-home: 28.6M/?? (100%)",
        "Finished replication for tank-home",
    ]
    assert feed(parser, METER[2]) == []
    assert feed(parser, METER[0])[0] == "Starting replication for tank-home"


def test_meter_with_a_name_and_no_size_ends_in_silence():
    # written by pv 1.6.20 -f -N tank/home
    parser = PvLog("/var/log/pv.log")
    assert feed(
        parser, "tank/home: 11.4MiB 0:00:01 [11.4MiB/s] [<=>                                    ]"
    ) == [
        "Starting replication for tank/home",
        "Replicating tank/home: 11.4M/??",
    ]
    assert idle(parser) == ["Finished replication for tank/home"]


def test_a_timer_that_goes_back_is_another_transfer():
    parser = PvLog("/var/log/x.log")
    feed(parser, "1.00GiB 0:01:00 [11.4MiB/s]")
    assert feed(parser, "5.00MiB 0:00:01 [5.0MiB/s]") == [
        "Finished replication for x",
        "Starting replication for x",
        "Replicating x: 5.00M/??",
    ]


def test_failure_beside_the_meter():
    parser = PvLog("/var/log/x.log")
    feed(parser, METER[0])
    assert feed(parser, "cannot receive incremental stream: destination has been modified") == [
        "Replication Failed for x\nLogfile available at: /var/log/x.log"
    ]


# --- syncoid ------------------------------------------------------------------------------------------------


def test_syncoid_with_a_meter():
    parser = SyncoidLog("/var/log/syncoid.log")
    lines = [
        "INFO: Sending incremental tank/home@syncoid_nas_1 ... syncoid_nas_2 to root@b:backup/home (~ 4.2 GB):",
        "1.32GiB 0:00:12 [ 110MiB/s] [=====>          ] 31% ETA 0:00:26",
        "4.20GiB 0:00:39 [ 110MiB/s] [===============>] 100%",
    ]
    assert feed(parser, *lines) == [
        "Starting replication for tank/home",
        "Replicating tank/home: 1.32G/4.2G (31%)",
        "Replicating tank/home: 4.20G/4.2G (100%)",
        "Finished replication for tank/home",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "INFO: Sending oldest full snapshot tank/home@a to new target filesystem backup/home (~ 4.2 GB):",
        "INFO: Sending oldest full snapshot tank/home@a (~ 4.2 GB) to new target filesystem:",  # up to 2.2
        "INFO: --no-stream selected; sending newest full snapshot tank/home@a to new target filesystem x: (~ 1 KB)",
        "INFO: Updating new target filesystem with incremental tank/home@a ... b (~ 4 KB):",
        "INFO: Sending incremental root@nas:tank/home@a ... b to backup/home (~ UNKNOWN):",
        "INFO: Resuming interrupted zfs send/receive from tank/home to backup/home (~ 1.0 GB remaining):",
        "INFO: Sending incremental tank/home#bookmark ... b to backup/home:",
    ],
)
def test_syncoid_beginnings(line):
    assert feed(SyncoidLog("/log"), line) == ["Starting replication for tank/home"]


def test_syncoid_without_a_meter_ends_with_its_next_line():
    parser = SyncoidLog("/log")
    feed(parser, "INFO: Sending incremental tank/a@a ... b to backup/a (~ 4 KB):")
    assert idle(parser) == []
    assert feed(parser, "INFO: Sending incremental tank/b@a ... b to backup/b (~ 4 KB):") == [
        "Finished replication for tank/a",
        "Starting replication for tank/b",
    ]


def test_syncoid_failure():
    parser = SyncoidLog("/var/log/syncoid.log")
    feed(parser, "INFO: Sending incremental tank/a@a ... b to backup/a (~ 4 KB):")
    found = parser.feed(
        "CRITICAL ERROR:  zfs send  -I 'tank/a'@'a' failed: 256 at /usr/sbin/syncoid line 817.", NOW
    )
    assert [notice.args["message"].partition("\n")[0] for notice in found] == [
        f"{NOW.text}: Replication Failed for tank/a"
    ]
    assert "failed: 256" in found[0].args["reason"]
    assert feed(parser, "INFO: Sending incremental tank/b@a ... b to backup/b (~ 4 KB):") == [
        "Starting replication for tank/b"
    ]


def test_syncoid_warning_during_a_transfer_does_not_end_it():
    parser = SyncoidLog("/log")
    feed(parser, "INFO: Sending incremental tank/a@a ... b to backup/a (~ 4 KB):")
    assert feed(parser, "WARNING: mbuffer not available on source - sync will continue without it.") == []


# --- zrepl --------------------------------------------------------------------------------------------------

ZREPL = {
    "human": [
        "2026-11-23T07:21:06Z [INFO][push][job][a$b]: start replication",
        '2026-11-23T07:21:08Z [ERRO][push][repl][a$b]: most recent error in this attempt err="dial tcp: \\"no\\" route"',
        "2026-11-23T07:21:09Z [INFO][push][job][a$b]: start pruning sender",
    ],
    "logfmt": [
        'time=2026-11-23T07:21:06Z level=info job=push subsystem=job span=a$b msg="start replication"',
        'time=2026-11-23T07:21:08Z level=error job=push subsystem=repl msg="most recent error in this attempt" '
        'err="dial tcp: \\"no\\" route"',
        'time=2026-11-23T07:21:09Z level=info job=push subsystem=job msg="start pruning sender"',
    ],
    "json": [
        '{"job":"push","level":"info","msg":"start replication","subsystem":"job","time":"2026-11-23T07:21:06Z"}',
        '{"err":"dial tcp: \\"no\\" route","job":"push","level":"error","msg":"most recent error in this attempt"}',
        '{"job":"push","level":"info","msg":"start pruning sender","time":"2026-11-23T07:21:09Z"}',
    ],
}


@pytest.mark.parametrize("form", ZREPL)
@pytest.mark.parametrize("prefix", ["", "Nov 23 07:21:06 nas zrepl[812]: "])
def test_zrepl_failure_in_every_format(form, prefix):
    parser = ZreplLog("/var/log/zrepl.log")
    lines = [prefix + line for line in ZREPL[form]]
    found = [notice for line in lines for notice in parser.feed(line, NOW)]
    assert [notice.args["message"].partition(": ")[2] for notice in found] == [
        "Starting replication for push",
        "Replication Failed for push\nLogfile available at: /var/log/zrepl.log",
    ]
    assert found[1].args["reason"] == 'dial tcp: "no" route'
    assert found[0].time == 1795418466000000


@pytest.mark.parametrize("form", ZREPL)
def test_zrepl_success(form):
    parser = ZreplLog("/log")
    found = [notice for line in (ZREPL[form][0], ZREPL[form][2]) for notice in parser.feed(line, NOW)]
    assert [notice.args["message"].partition(": ")[2] for notice in found] == [
        "Starting replication for push",
        "Finished replication for push",
    ]


def test_zrepl_error_that_was_overcome():
    parser = ZreplLog("/log")
    lines = [*ZREPL["human"][:2], "2026-11-23T07:21:08Z [ERRO][push][repl][x]: reconnect successful"]
    found = [notice for line in [*lines, ZREPL["human"][2]] for notice in parser.feed(line, NOW)]
    assert "Finished" in found[-1].args["message"]


def test_zrepl_snapshot_that_failed():
    line = '2026-11-23T07:21:06Z [ERRO][snap][snapshot][x]: cannot create snapshot fs="tank/home" err="out of space"'
    (notice,) = ZreplLog("/log").feed(line, NOW)
    assert notice.args["message"].endswith("Failed creating snapshot of tank/home")
    assert notice.args["reason"] == "out of space"


@pytest.mark.parametrize(
    "date", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"]
)
def test_zrepl_without_a_possible_time(date):
    (notice,) = ZreplLog("/log").feed(f'time={date} job=push msg="start replication"', NOW)
    assert (notice.time, notice.args["message"]) == (NOW.us, f"{NOW.text}: Starting replication for push")


@pytest.mark.parametrize("line", ["", "{", "{}", "[1]", '{"a":', "x=y", '[INFO][x]: a="'])
def test_zrepl_other_lines(line):
    read_line(line)
    assert ZreplLog("/log").feed(line, NOW) == []
