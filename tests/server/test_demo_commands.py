"""The stand-ins for zpool, zfs and pkg: what they print, what they do, and how they fail."""

import pytest

from sysadm_nb.server import zfs
from sysadm_nb.server.demo import Machine, commands
from sysadm_nb.server.demo.storage import DAY, HOUR, MINUTE, SECOND
from sysadm_nb.server.zpool_status import read_status

START = 1_767_571_200_000_000  # Monday 2026-01-05 00:00 UTC


@pytest.fixture
def machine() -> Machine:
    machine = Machine(seed=1, start=START)
    machine.advance(START + HOUR)
    return machine


def run(machine: Machine, line: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line, the machine's clock going on while it runs."""
    command = commands.run(machine, line.split())
    out = err = ""
    while True:
        try:
            piece = next(command)
        except StopIteration as end:
            return end.value, out, err
        machine.advance(machine.now + int(piece.after * SECOND))
        if piece.error:
            err += piece.text
        else:
            out += piece.text


def test_zpool_list_is_a_table(machine):
    code, out, err = run(machine, "zpool list")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    head = "NAME SIZE ALLOC FREE CKPOINT EXPANDSZ FRAG CAP DEDUP HEALTH ALTROOT"
    assert " ".join(lines[0].split()) == head
    assert [line.split()[0] for line in lines[1:]] == ["backup", "media", "scratch", "tank", "vault", "zroot"]
    tank = lines[4].split()
    assert (tank[1], tank[4], tank[5], tank[8], tank[9], tank[10]) == (
        "21.8T",
        "-",
        "-",
        "1.00x",
        "ONLINE",
        "-",
    )


def test_zpool_list_is_read_by_our_own_reader(machine):
    columns = ",".join(zfs.COLUMNS.values())
    _, out, _ = run(machine, f"zpool list -Hp -o {columns}")
    read = {name: zfs.pool_object(pool) for name, pool in zfs.read_pools(out).items()}
    assert read == machine.state()["zpools"]


def test_zpool_list_of_one_pool_and_one_column(machine):
    assert run(machine, "zpool list -H -o name,health vault") == (0, "vault\tONLINE\n", "")


def test_scrub_runs_shows_in_status_and_ends(machine):
    assert run(machine, "zpool status zroot")[1] == (
        "  pool: zroot\n state: ONLINE\n  scan: none requested\nconfig:\n\n"
        "\tNAME        STATE     READ WRITE CKSUM\n"
        "\tzroot       ONLINE       0     0     0\n"
        "\t  mirror-0  ONLINE       0     0     0\n"
        "\t    ada0p3  ONLINE       0     0     0\n"
        "\t    ada1p3  ONLINE       0     0     0\n"
        "\nerrors: No known data errors\n"
    )
    assert run(machine, "zpool scrub zroot") == (0, "", "")
    machine.advance(machine.now + 30 * SECOND)
    status = read_status(run(machine, "zpool status zroot")[1])["zroot"]
    # 30 s at 420 MiB a second are 12.3 GiB.
    assert status["scan"].startswith(
        "scrub in progress since Mon Jan 5 01:00:00 2026 12.3G issued at 420M/s, "
    )
    assert run(machine, "zpool scrub zroot") == (
        1,
        "",
        "cannot scrub zroot: currently scrubbing; use 'zpool scrub -s' to cancel scrub\n",
    )
    machine.advance(machine.now + 5 * MINUTE)
    status = read_status(run(machine, "zpool status zroot")[1])["zroot"]
    assert status["scan"].startswith("scrub repaired 0B in 00:01:")
    assert (
        status["scan"].endswith("with 0 errors on Mon Jan 5 01:01:32 2026")
        or "with 0 errors on" in status["scan"]
    )
    assert "scan" not in machine.state()["zpools"]["zroot"]


def test_a_scrub_under_way_is_in_the_system_state(machine):
    run(machine, "zpool scrub tank")
    machine.advance(machine.now + MINUTE)
    assert machine.state()["zpools"]["tank"]["scan"].startswith("scrub in progress since")


def test_scrub_can_be_paused_resumed_stopped_and_waited_for(machine):
    run(machine, "zpool scrub zroot")
    machine.advance(machine.now + 30 * SECOND)
    assert run(machine, "zpool scrub -p zroot") == (0, "", "")
    machine.advance(machine.now + HOUR)
    assert "scrub paused since" in run(machine, "zpool status zroot")[1]
    assert "12.3G issued" in run(machine, "zpool status zroot")[1]
    assert run(machine, "zpool scrub -p zroot")[0] == 1
    assert run(machine, "zpool scrub zroot") == (0, "", "")
    assert run(machine, "zpool scrub -s zroot") == (0, "", "")
    assert "scrub canceled on" in run(machine, "zpool status zroot")[1]
    assert run(machine, "zpool scrub -s zroot") == (
        1,
        "",
        "cannot cancel scrubbing zroot: there is no active scrub\n",
    )
    before = machine.now
    assert run(machine, "zpool scrub -w zroot") == (0, "", "")
    assert machine.now - before > MINUTE


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("zpool scrub nope", 1, "cannot open 'nope': no such pool"),
        ("zpool scrub", 2, "missing pool name argument"),
        ("zpool scrub -s -p tank", 2, "invalid option combination"),
        ("zpool", 2, "usage: zpool"),
        ("zpool explode tank", 2, "unrecognized command 'explode'"),
        ("zpool list -o colour", 2, "invalid property 'colour'"),
        ("zpool status -Q", 2, "option -Q not recognized"),
        ("zfs list tank/nope", 1, "cannot open 'tank/nope': dataset does not exist"),
        ("zfs list nopool", 1, "cannot open 'nopool': dataset does not exist"),
        ("zfs snapshot tank/home", 1, "cannot create snapshot 'tank/home'"),
        ("zfs snapshot tank/nope@now", 1, "dataset does not exist"),
        ("zfs destroy tank/home@nope", 1, "could not find any snapshots to destroy"),
        ("zfs destroy tank/home", 1, "cannot destroy 'tank/home': filesystem has children"),
        ("zfs destroy tank", 1, "operation does not apply to pools"),
        ("zfs create tank/home", 1, "dataset already exists"),
        ("zfs create tank/no/where", 1, "parent does not exist"),
        ("zfs create tank/a@b", 1, "snapshot delimiter '@' is not expected here"),
        ("zfs create tank/a\x07b", 1, "invalid character '\x07' in name"),
        ("zfs create tank//a", 1, "cannot create 'tank//a'"),
        ("zfs create nopool/a", 1, "no such pool 'nopool'"),
        ("zfs snapshot tank/home@x tank/home@x", 1, "multiple snapshots of same fs not allowed"),
        ("zfs list tank/home@nope", 1, "cannot open 'tank/home@nope': dataset does not exist"),
        ("zfs list -d x tank", 2, "x is not an integer"),
        ("zfs list -t volume", 2, "invalid type 'volume'"),
        ("pkg", 64, "usage: pkg"),
        ("pkg frobnicate", 64, "unrecognized command"),
        ("pkg info nothing-like-it", 70, "No package(s) matching nothing-like-it"),
    ],
)
def test_wrong_use_fails_as_the_real_program_does(machine, line, code, message):
    found, out, err = run(machine, line)
    assert (found, out) == (code, "")
    assert message in err


def test_snapshots_are_taken_listed_and_destroyed(machine):
    assert run(machine, "zfs snapshot tank/home@before-upgrade") == (0, "", "")
    assert run(machine, "zfs snapshot tank/home@before-upgrade")[2] == (
        "cannot create snapshot 'tank/home@before-upgrade': dataset already exists\n"
    )
    assert run(machine, "zfs list -H -o name tank/home@before-upgrade") == (
        0,
        "tank/home@before-upgrade\n",
        "",
    )
    listed = run(machine, "zfs list -H -t snapshot -o name tank/home")[1].splitlines()
    assert listed[-1] == "tank/home@before-upgrade"
    assert len(listed) == 24 + 14 + 8 + 1
    assert run(machine, "zfs destroy tank/home@before-upgrade") == (0, "", "")
    assert "before-upgrade" not in run(machine, "zfs list -t all")[1]


def test_recursive_snapshots_and_new_datasets(machine):
    assert run(machine, "zfs create tank/new")[0] == 0
    assert run(machine, "zfs snapshot -r tank@all")[0] == 0
    assert machine.pools["tank"].datasets["tank/new"].find("all")
    assert run(machine, "zfs list -H -o name,refer tank/new")[1] == "tank/new\t96K\n"
    assert run(machine, "zfs destroy tank/new")[0] == 1  # it has a snapshot
    assert run(machine, "zfs destroy -r tank/new")[0] == 0
    assert run(machine, "zfs list tank/new")[0] == 1


def test_parents_are_made_and_levels_are_counted(machine):
    assert run(machine, "zfs create -p tank/new/a/b") == (0, "", "")
    assert run(machine, "zfs create -p tank/new/a") == (0, "", "")
    for depth, names in ((0, ["new"]), (1, ["new", "new/a"]), (2, ["new", "new/a", "new/a/b"])):
        listed = run(machine, f"zfs list -H -o name -d {depth} tank/new")[1].splitlines()
        assert listed == [f"tank/{name}" for name in names]


def test_destroying_a_dataset_frees_its_space_and_stops_its_flow(machine):
    tank = machine.pools["tank"]
    before = tank.alloc
    used = tank.used_below("tank/projects")
    assert run(machine, "zfs destroy -r tank/projects")[0] == 0
    assert before - tank.alloc == pytest.approx(1.5 * used, abs=8192)
    machine.advance(machine.now + 3 * DAY)  # snapshots and replication do without it
    assert run(machine, "zfs list tank/projects")[0] == 1


def test_used_counts_the_children(machine):
    rows = dict(
        line.split("\t")[:2] for line in run(machine, "zfs list -Hp -r -o name,used tank")[1].splitlines()
    )
    children = [int(used) for name, used in rows.items() if name.count("/") == 1]
    assert int(rows["tank"]) == sum(children) + 192 * 1024


def test_pkg_upgrades_what_is_newer_and_then_has_nothing_to_do(machine):
    machine.packages.newer = {"curl": "8.11.0", "zsh": "5.9_1"}
    machine.updates = {"status": "updatesavailable"}
    code, out, _ = run(machine, "pkg upgrade")
    assert code == 1
    assert out.endswith("Proceed with this action? [y/N]: n\n")
    before = machine.now
    code, out, _ = run(machine, "pkg upgrade -y")
    assert code == 0
    assert "[1/2] Upgrading curl from 8.10.1 to 8.11.0...\n" in out
    assert machine.now - before > 2 * SECOND  # output comes over some seconds
    assert machine.packages.installed["curl"] == "8.11.0"
    assert machine.updates == {"status": "noupdates"}
    assert run(machine, "pkg upgrade -y") == (0, "Your packages are up to date.\n", "")
    assert run(machine, "pkg info curl") == (0, "curl-8.11.0\n", "")


def test_pkg_update_prints_as_it_goes_and_finds_something_new(machine):
    assert machine.packages.newer == {}
    pieces = list(commands.run(machine, ["pkg", "update"]))
    assert len(pieces) > 5
    assert sum(piece.after for piece in pieces) == pytest.approx(2.6)
    assert len(machine.packages.newer) == 4
    assert machine.updates == {"status": "updatesavailable", "details": "4 package(s) can be upgraded."}
    list(commands.run(machine, ["pkg", "update"]))
    assert len(machine.packages.newer) == 4
