"""The dispatcher: runs chains of commands as processes, in three queues, and tells of them in events."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from sysadm_nb.server.job import Job, Step, event, queue_of
from sysadm_nb.server.process import Output, Process

log = logging.getLogger(__name__)

PENDING_S: Final = 2.0
"""A job that waits for its turn says so again this often, in seconds."""

DELTA_S: Final = 1.0
"""A running job tells what it printed at most this often, in seconds."""

_MANY_AT_ONCE: Final = 64
_MANY_WAITING: Final = 1000
_DELTA_LIMIT: Final = 128 * 1024


def default_environment() -> dict[str, str]:
    """What a process gets to see: where programs are, and nothing of ours (which may hold secrets)."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TZ", "USER") if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "dumb"} | kept


class Full(Exception):
    """Too many jobs are waiting already."""


class Dispatcher:
    """Queues, runs and kills jobs.

    Parameters
    ----------
    publish : callable
        Gets the ``args`` of each event.
    clock : callable
        The time, in microseconds since the epoch, UTC.
    environment : mapping
        The whole environment of the processes.
    cwd : str
        Their working directory.
    max_output : int
        Characters kept of each command's output: head and tail, the cut marked.
    grace : float
        Seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        publish: Callable[[dict[str, Any]], None],
        clock: Callable[[], int],
        environment: Mapping[str, str] | None = None,
        *,
        cwd: str = "/",
        max_output: int = 2**20,
        grace: float = 5.0,
    ) -> None:
        self._publish, self._clock = publish, clock
        self.environment = dict(default_environment() if environment is None else environment)
        self._cwd, self._max_output, self._grace = cwd, max_output, grace
        self._queues: dict[str, list[Job]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._processes: dict[int, Process] = {}  # by id of the job: process ids can be used again
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False

    def run(self, process_id: str, commands: list[str], queue: str | None = None) -> None:
        """Queue a job.

        Parameters
        ----------
        process_id : str
            May be in use already: then this is another run of the same id.
        commands : list of str
            ``program arguments...`` each, run one after another until one fails.
        queue : {"no_queue", "pkg_queue", "iocage_queue"}, optional
            By default the one its process id asks for.

        Raises
        ------
        Full
            If a thousand jobs are waiting already.
        """
        queue = queue or queue_of(process_id)
        jobs = self._queues.setdefault(queue, [])
        if self._stopping or len(jobs) >= _MANY_WAITING:
            raise Full
        steps = [Step(command, Output(self._max_output)) for command in commands]
        job = Job(process_id, queue, steps, Output(_DELTA_LIMIT))
        jobs.append(job)
        # Announced here, not in the task: a kill that comes before the task begins then still is a job's end.
        self._publish(event(job))
        task = asyncio.get_running_loop().create_task(self._job(job), name=f"job {process_id[:40]}")
        task.add_done_callback(lambda task: self._end(job, task))
        self._tasks[id(job)] = task

    def jobs(self) -> dict[str, Any]:
        """What waits and runs, by queue, as ``rpc/dispatcher`` ``list`` gives it; only queues used so far."""
        return {queue: self._list(queue, jobs) for queue, jobs in sorted(self._queues.items())}

    def _list(self, queue: str, jobs: list[Job]) -> dict[str, Any]:
        listed = {}
        for position, job in enumerate(jobs):
            entry: dict[str, Any] = {"commands": job.commands, "state": job.state}
            if queue != "no_queue":
                entry["queue_position"] = str(position)
            listed[job.process_id] = entry
        return listed

    def kill(self, process_ids: list[str]) -> list[str]:
        """Kill jobs: running ones with their whole process group, waiting ones before they begin.

        Returns
        -------
        list of str
            Those that there were, sorted; their end is told by their *finished* event.
        """
        wanted = set(process_ids)
        found = [job for jobs in self._queues.values() for job in jobs if job.process_id in wanted]
        for job in found:
            process = self._processes.get(id(job))
            if process is not None:
                process.kill()
            else:
                self._tasks[id(job)].cancel()
        return sorted({job.process_id for job in found})

    async def stop(self) -> None:
        """Kill everything and wait for it to end."""
        self._stopping = True
        for job in [job for jobs in self._queues.values() for job in jobs]:
            self.kill([job.process_id])
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=self._grace + 5)
        for task in self._tasks.values():
            task.cancel()

    async def _job(self, job: Job) -> None:
        turn = self._turns.get(job.queue)
        if turn is None:
            turn = asyncio.Semaphore(_MANY_AT_ONCE if job.queue == "no_queue" else 1)
            self._turns[job.queue] = turn
        announcer = asyncio.create_task(self._keep_announcing(job))
        try:
            async with turn:
                announcer.cancel()
                await self._run(job)
        finally:
            announcer.cancel()

    def _end(self, job: Job, task: asyncio.Task[None]) -> None:
        # A callback, not the task's last lines: one that is cancelled before its first step runs none.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job %r failed inside the dispatcher", job.process_id, exc_info=error)
        self._processes.pop(id(job), None)
        self._tasks.pop(id(job), None)
        self._queues[job.queue].remove(job)
        job.current, job.finished = None, self._clock()
        self._publish(event(job))

    async def _keep_announcing(self, job: Job) -> None:
        while True:
            await asyncio.sleep(PENDING_S)
            self._publish(event(job))

    async def _run(self, job: Job) -> None:
        if not job.steps or not job.steps[0].command.strip():
            return  # as on a real server: a job of nothing finishes without having started
        job.started = self._clock()
        teller = asyncio.create_task(self._tell(job))
        process = self._processes[id(job)] = Process(self.environment, self._cwd, self._grace)
        try:
            for step in job.steps:
                job.current = step
                job.delta = Output(_DELTA_LIMIT)
                if step is job.steps[0]:  # the others are told of within a second
                    self._publish(event(job))

                def received(text: str, step: Step = step) -> None:
                    step.log.add(text)
                    job.delta.add(text)

                step.code = await process.run(step.command, received)
                if step.code != 0 or process.killed:
                    break
        finally:
            teller.cancel()

    async def _tell(self, job: Job) -> None:
        """Send what is new, once a second at most, until the job's end cancels this."""
        while True:
            await asyncio.sleep(DELTA_S)
            if job.current is not None and (job.delta or job.has_news):
                delta, job.delta = job.delta.text(), Output(_DELTA_LIMIT)
                self._publish(event(job, delta))
