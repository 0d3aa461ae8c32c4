"""Jobs of the dispatcher: package checks and upgrades, system updates, scrubs, dumps, downloads."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sysadm_nb.server.demo import jobs
from sysadm_nb.server.demo.jobs import Step, Subsystem
from sysadm_nb.server.demo.storage import DAY, HOUR, MINUTE, GiB, MiB, Pool, Scan

if TYPE_CHECKING:
    from sysadm_nb.server.demo.machine import Machine

INSTALLED: Final = (
    "bash 5.2.37", "ca_root_nss 3.104", "curl 8.10.1", "git 2.47.0", "nginx 1.26.2", "openssl 3.0.15",
    "pcre2 10.44", "postgresql16-server 16.4", "py311-numpy 1.26.4", "python311 3.11.10", "rsync 3.3.0",
    "samba416 4.16.11", "smartmontools 7.4", "sqlite3 3.46.1", "sudo 1.9.16", "tmux 3.3a", "vim 9.1.0764",
    "zsh 5.9",
)  # fmt: skip
CATALOGUE: Final = 34_812
MIRROR: Final = "pkg.example.org"
WEEK: Final = 7 * DAY
PKG: Final = "sysadm/pkg"
DUMPS: Final = (
    "/usr/local/bin/pg_dumpall -f /tank/db/dump/all.sql",
    "/usr/bin/gzip -f /tank/db/dump/all.sql",
)
RUN_UPDATE: Final = "/usr/local/bin/pc-updatemanager startupdate"


class Packages:
    """Which packages are installed and which newer ones wait."""

    def __init__(self) -> None:
        self.installed = dict(line.split() for line in INSTALLED)
        self.newer: dict[str, str] = {}

    def release(self, names: Iterable[str]) -> None:
        """A newer version of each comes out."""
        for name in names:
            self.newer[name] = _next_version(self.newer.get(name, self.installed[name]))

    def upgrade(self) -> None:
        self.installed |= self.newer
        self.newer = {}


def _next_version(version: str) -> str:
    """A port's revision goes up (``10.44_1``); after two of them there is a new release (``10.45``)."""
    release, _, revision = version.partition("_")
    if int(revision or 0) < 2:
        return f"{release}_{int(revision or 0) + 1}"
    head, dot, last = release.rpartition(".")
    return f"{head}{dot}{int(last.rstrip(ascii_lowercase)) + 1}"


def begin(machine: Machine, start: int) -> None:
    midnight = start // DAY * DAY
    tomorrow = midnight + DAY
    rng = machine.rng("maintenance")
    work = Maintenance(machine, rng)
    machine.every(DAY, tomorrow + 4 * HOUR + 10 * MINUTE, work.check_packages)
    machine.every(DAY, tomorrow + 1 * HOUR + 20 * MINUTE, work.dump)
    machine.every(WEEK, _weekday(start, 2, 22 * HOUR), work.upgrade_packages)
    machine.every(WEEK, _weekday(start, 0, 6 * HOUR), work.audit)
    machine.every(4 * WEEK, _weekday(start, 1, 23 * HOUR) + WEEK, work.update_system)
    for number, pool in enumerate(machine.pools.values()):
        first = _weekday(start, 6, 3 * HOUR) + number % 4 * WEEK + number // 4 * 12 * HOUR
        machine.every(4 * WEEK, first, partial(work.scrub, pool))
    machine.at(start + rng.randint(2 * 24, 5 * 24) * HOUR, work.release)
    machine.at(start + rng.randint(6 * 24, 9 * 24) * HOUR, work.fetch)
    machine.at(midnight + rng.randint(150, 200) * DAY + 10 * HOUR, work.more_cameras)


def _weekday(after: int, day: int, time: int) -> int:
    """The first such weekday (Monday is 0) and time of day after `after`; the epoch was a Thursday."""
    first = (day - 3) % 7 * DAY + time
    return after + (first - after) % WEEK


class Maintenance:
    """What the machine's administrator and its timers let the dispatcher run."""

    def __init__(self, machine: Machine, rng: Random) -> None:
        self.machine = machine
        self.rng = rng
        self.weeks_until_timeout = rng.randint(2, 4)

    def uuid(self) -> str:
        return f"{{{UUID(int=self.rng.getrandbits(128), version=4)}}}"

    def queue(self, events: Iterable[jobs.Timed]) -> int:
        """Send a job's events at their times; when the last is."""
        time = self.machine.now
        for time, args in events:
            self.machine.at(time, partial(self._send, args))
        return time

    def _send(self, args: dict[str, Any], now: int) -> None:
        self.machine.emit("dispatcher", args)

    def release(self, now: int) -> None:
        release(self.machine, self.rng.randint(2, 7))
        self.machine.at(now + self.rng.randint(4 * 24, 11 * 24) * HOUR, self.release)

    def check_packages(self, now: int) -> None:
        packages = self.machine.packages
        text = "".join(f"{name}: {old} -> {packages.newer[name]}\n" for name, old in self._waiting())
        steps = [Step("pkg version -vRL=", ((0.4, text or "Your packages are up to date.\n"),), 1.3)]
        kind = Subsystem(
            PKG,
            "pkg_log",
            {"action": "pkg_check_upgrade"},
            {"updates_available": "true" if packages.newer else "false"},
        )
        self.queue(jobs.subsystem(f"sysadm_pkg_check_upgrade-{self.uuid()}", steps, now, kind))

    def _waiting(self) -> list[tuple[str, str]]:
        packages = self.machine.packages
        return [(name, packages.installed[name]) for name in sorted(packages.newer)]

    def upgrade_packages(self, now: int) -> None:
        packages = self.machine.packages
        self.weeks_until_timeout -= 1
        works = self.weeks_until_timeout > 0
        if not works:
            self.weeks_until_timeout = self.rng.randint(3, 9)
        steps = [update_step(), upgrade_step(packages) if works else _broken_upgrade()]
        kind = Subsystem(PKG, "pkg_log", {"action": "pkg_upgrade"})
        finished = self.queue(jobs.subsystem(f"sysadm_pkg_upgrade-{self.uuid()}", steps, now, kind))
        if works and packages.newer:
            self.machine.at(finished, partial(upgrade, self.machine))

    def more_cameras(self, now: int) -> None:
        """Somebody installs the recorder of more cameras, and from then on media grows faster."""
        lines = (
            (0.4, "The following 1 package(s) will be affected (of 0 checked):\n\n"),
            (0.4, "New packages to be INSTALLED:\n\tmotion: 4.7.0\n\n2 MiB to be downloaded.\n"),
            (1.2, "[1/1] Fetching motion-4.7.0.pkg: .......... done\n"),
            (1.9, "[1/1] Installing motion-4.7.0...\n[1/1] Extracting motion-4.7.0: .......... done\n"),
        )
        steps = [Step("pkg install -y motion", lines, 2.2)]
        kind = Subsystem(PKG, "pkg_log", {"action": "pkg_install"})
        self.queue(jobs.subsystem(f"sysadm_pkg_install-{self.uuid()}", steps, now, kind))
        self.machine.pace["media/cameras"] = self.machine.pace.get("media/cameras", 1.0) * 1.5
        self.machine.at(now + self.rng.randint(250, 400) * DAY, self.more_cameras)

    def audit(self, now: int) -> None:
        old = [f"{name}-{version}" for name, version in self._waiting()][:2]
        text = "".join(f"{name} is vulnerable:\n" for name in old) + f"{len(old)} problem(s) found.\n"
        steps = [Step("pkg audit -F", ((0.2, "Fetching vuln.xml.xz: .......... done\n"), (1.6, text)), 1.9)]
        found = {"vulnerable_pkgs": old, "impacts_pkgs": []}
        kind = Subsystem(PKG, "pkg_log", {"action": "pkg_audit"}, found)
        self.queue(jobs.subsystem(f"sysadm_pkg_audit-{self.uuid()}", steps, now, kind))

    def dump(self, now: int) -> None:
        """A generic job: the nightly dump of the databases, which fails when they are not there."""
        seconds = self.rng.uniform(260, 420)
        if self.rng.random() < 0.02:
            error = "pg_dumpall: error: connection to server on socket failed: No such file or directory\n"
            steps = [Step(DUMPS[0], ((0.3, error),), 0.4, 1), Step(DUMPS[1])]
        else:
            steps = [Step(DUMPS[0], (), seconds), Step(DUMPS[1], (), seconds / 3)]
        self.queue(jobs.generic(f"db-dump-{self.uuid()}", steps, now))

    def scrub(self, pool: Pool, now: int) -> None:
        if pool.scan is not None and pool.scan.active:
            return
        self.machine.start_scan(pool, Scan("scrub", now, max(pool.alloc, GiB), pool.scan_rate))
        steps = [Step(f"zpool scrub {pool.name}", (), 0.6)]
        self.queue(jobs.generic(f"scrub-{pool.name}-{self.uuid()}", steps, now))

    def update_system(self, now: int) -> None:
        """Install an update in a new boot environment; it takes effect at the reboot at five."""
        output, at = [], 0.0
        texts = ["Creating new boot environment...\n", "Fetching updates...\n"]
        texts += [f"[{n}/41] Extracting base-{n:02}: done\n" for n in range(1, 42)]
        for text in [*texts, "Updates are installed. Reboot to use them.\n"]:
            at += self.rng.uniform(0.5, 6)
            output.append((at, text))
        steps = [Step(RUN_UPDATE, tuple(output), at + 2)]
        kind = Subsystem("sysadm/update", "update_log")
        self.machine.updates = {"status": "updaterunning"}
        done = self.queue(jobs.subsystem(f"sysadm_update_runupdates::{self.uuid()}", steps, now, kind))
        self.machine.at(done, self._updated)
        self.machine.at(now // DAY * DAY + DAY + 5 * HOUR + 10 * MINUTE, self._reboot)

    def _updated(self, now: int) -> None:
        self.machine.write("zroot/ROOT/default", int(self.rng.uniform(1.2, 2.1) * GiB))
        self.machine.updates = {"status": "rebootrequired", "details": "Updates wait for a reboot."}

    def _reboot(self, now: int) -> None:
        self.machine.reboot(now, self.rng.randint(3, 6))
        if root := self.machine.dataset("zroot/ROOT/default"):
            root.delete(int(1.4 * GiB))  # the oldest boot environment goes

    def fetch(self, now: int) -> None:
        """A download by iohyve, which reports its progress."""
        name, size = "FreeBSD-14.2-RELEASE-amd64-disc1.iso", 1_203
        rate = self.rng.uniform(8, 40)
        seconds = size / rate
        shares = range(10, 101, 10)
        output = tuple((seconds * n / 100, f"{name}\t{n}% of {size} MB\t{rate:.0f} MBps\n") for n in shares)
        steps = [Step(f"iohyve fetchiso https://{MIRROR}/{name}", output, seconds + 1.5)]
        process_id = f"sysadm_iohyve_fetch::{self.uuid()}"
        events = []
        for time, args in jobs.subsystem(process_id, steps, now, Subsystem("sysadm/iohyve")):
            log = str(args.get("process_details", {}).get(steps[0].command, ""))
            if args["state"] == "running" and log:
                percent = log.rstrip().rpartition("\n")[2].split("\t")[1].partition("%")[0]
                args |= {"filename": name, "percent_done": percent, "download_rate": f"{rate:.0f} MBps"}
            events.append((time, args))
        self.queue(events)
        self.machine.at(now + self.rng.randint(12 * 24, 30 * 24) * HOUR, self.fetch)


def release(machine: Machine, count: int) -> None:
    """Newer versions of some packages appear."""
    packages = machine.packages
    packages.release(machine.catalogue.sample(list(packages.installed), count))
    if machine.updates["status"] in ("noupdates", "updatesavailable"):
        details = f"{len(packages.newer)} package(s) can be upgraded."
        machine.updates = {"status": "updatesavailable", "details": details}


def upgrade(machine: Machine, now: int = 0) -> None:
    """Install the newer packages."""
    count = len(machine.packages.newer)
    machine.packages.upgrade()
    machine.write("zroot/var/cache/pkg", count * 9 * MiB)
    machine.write("zroot/ROOT/default", count * 2 * MiB, count * 40 * MiB)
    if machine.updates["status"] == "updatesavailable":
        machine.updates = {"status": "noupdates"}


def update_step() -> Step:
    """``pkg update``."""
    lines = (
        (0.2, "Updating FreeBSD repository catalogue...\n"),
        (0.6, "Fetching meta.conf: . done\n"),
        (1.4, "Fetching packagesite.pkg: .......... done\n"),
        (2.2, "Processing entries: .......... done\n"),
        (2.4, f"FreeBSD repository update completed. {CATALOGUE} packages processed.\n"),
        (2.5, "All repositories are up to date.\n"),
    )
    return Step("pkg update", lines, 2.6)


def upgrade_step(packages: Packages) -> Step:
    """``pkg upgrade -y`` with what waits now."""
    newer = sorted(packages.newer.items())
    if not newer:
        return Step("pkg upgrade -y", ((0.7, "Your packages are up to date.\n"),), 0.8)
    count = len(newer)
    output = [
        (0.3, f"Checking for upgrades ({count} candidates): .......... done\n"),
        (0.6, f"The following {count} package(s) will be affected (of 0 checked):\n\n"),
        (0.6, "Installed packages to be UPGRADED:\n"),
    ]
    output += [(0.6, f"\t{name}: {packages.installed[name]} -> {version}\n") for name, version in newer]
    output.append(
        (0.7, f"\nNumber of packages to be upgraded: {count}\n\n{count * 9} MiB to be downloaded.\n")
    )
    at = 0.8
    for verb, ending in (("Fetching", ".pkg: .......... done\n"), ("Extracting", ": .......... done\n")):
        for number, (name, version) in enumerate(newer, 1):
            at += 0.35
            if verb == "Extracting":
                old = packages.installed[name]
                output.append((at, f"[{number}/{count}] Upgrading {name} from {old} to {version}...\n"))
                at += 0.15
            output.append((at, f"[{number}/{count}] {verb} {name}-{version}{ending}"))
        if verb == "Fetching":
            at += 0.3
            output.append((at, "Checking integrity... done (0 conflicting)\n"))
    return Step("pkg upgrade -y", tuple(output), at + 0.2)


def _broken_upgrade() -> Step:
    lines = (
        (0.3, "Checking for upgrades: .......... done\n"),
        (1.1, "Fetching packages: ... "),
        (31.0, f"\npkg: https://{MIRROR}/FreeBSD:14:amd64/quarterly: Operation timed out\n"),
    )
    return Step("pkg upgrade -y", lines, 31.2, 1)
