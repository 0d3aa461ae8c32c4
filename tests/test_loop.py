"""The loop thread: counted, interruptible, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest

from sysadm_nb import loop
from sysadm_nb.errors import Closed, RequestTimeout, SysadmError


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == loop.THREAD_NAME]


@pytest.fixture
def handle():
    handle = loop.acquire()
    yield handle
    handle.release()
    assert not threads()


async def never() -> None:
    await asyncio.Event().wait()


def script(text: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_runs_a_coroutine_and_returns_its_result(handle) -> None:
    assert handle.run(asyncio.sleep(0, "done")) == "done"


def test_a_handle_that_is_given_back_while_the_process_ends_stops_nothing_twice() -> None:
    done = script("""
        import asyncio
        from sysadm_nb import loop
        handle = loop.acquire()
        handle.run(asyncio.to_thread(print, "on"))  # a pool of threads takes several turns to end
        waiting = handle.start(asyncio.sleep(600))
        waiting.add_done_callback(lambda _: handle.release(wait=False))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_raises_what_the_coroutine_raises(handle) -> None:
    async def fail() -> None:
        raise KeyError("no such pool")

    with pytest.raises(KeyError, match="no such pool"):
        handle.run(fail())


def test_one_thread_is_shared_and_joined_by_the_last(handle) -> None:
    other = loop.acquire()
    assert len(threads()) == 1
    assert other.loop is handle.loop
    other.release()
    other.release()  # twice is fine, and does not count twice
    assert handle.run(asyncio.sleep(0, 1)) == 1


def test_a_released_handle_says_so() -> None:
    handle = loop.acquire()
    handle.release()
    assert not threads()
    with pytest.raises(Closed, match="released"):
        handle.run(asyncio.sleep(0))
    with pytest.raises(Closed, match="released"):
        handle.call(print)


def test_starts_again_after_the_last_release() -> None:
    for _ in range(3):
        handle = loop.acquire()
        assert handle.run(asyncio.sleep(0, "again")) == "again"
        handle.release()
    assert not threads()


def test_a_time_out_cancels_the_coroutine(handle) -> None:
    ended = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(RequestTimeout, match=r"0\.05 s"):
        handle.run(slow(), timeout=0.05)
    assert ended.wait(10)


def test_the_coroutines_own_time_out_is_kept_apart(handle) -> None:
    async def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own") as caught:
        handle.run(fail())
    assert not isinstance(caught.value, RequestTimeout)


def test_a_blocking_call_on_the_loop_thread_raises(handle) -> None:
    async def inside() -> None:
        handle.run(asyncio.sleep(0))

    with pytest.raises(SysadmError, match="wait for itself"):
        handle.run(inside())


def test_release_ends_what_is_left_and_wakes_who_waits() -> None:
    handle = loop.acquire()
    future = handle.start(never())
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            handle.run(never(), timeout=None)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not handle.run(count_tasks()) >= 3:
        time.sleep(0.01)
    handle.release()
    waiting.join(10)
    assert isinstance(errors[0], Closed)
    assert future.cancelled()
    assert not threads()


async def count_tasks() -> int:
    return len(asyncio.all_tasks())


def test_release_on_the_loop_thread_does_not_wait_for_itself() -> None:
    handle = loop.acquire()
    (thread,) = threads()
    handle.call(handle.release)
    thread.join(10)
    assert not thread.is_alive()


def test_every_calls_until_undone_and_outlives_a_failing_callback(handle) -> None:
    calls: list[str] = []

    def tick() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            raise RuntimeError("once")

    undo = handle.every(0.01, tick)
    deadline = time.monotonic() + 10
    while len(calls) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    undo()
    undo()
    assert set(calls) == {loop.THREAD_NAME}
    handle.run(asyncio.sleep(0.05))
    count = len(calls)
    handle.run(asyncio.sleep(0.05))
    assert len(calls) == count >= 4


def test_the_context_of_the_caller_comes_along(handle) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("cell 7")

    async def read() -> str:
        return variable.get()

    assert handle.run(read()) == "cell 7"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_interrupts_and_cancels(handle) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        handle.run(wait())
    assert time.monotonic() - started < 20
    assert cancelled.wait(10)


def test_exit_joins_the_thread_without_a_word() -> None:
    done = script(
        """
        import asyncio
        from sysadm_nb import loop

        async def cleaned() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaned up")

        handle = loop.acquire()
        handle.start(cleaned())
        handle.run(asyncio.sleep(0.05))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cleaned up\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_a_thread_of_its_own() -> None:
    done = script(
        """
        import asyncio, os, warnings
        from sysadm_nb import loop

        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        handle = loop.acquire()
        if os.fork() == 0:
            print(loop.acquire().run(asyncio.sleep(0, "child")), flush=True)
        else:
            os.wait()
            print(handle.run(asyncio.sleep(0, "parent")))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "child\nparent\n", "")


NEST = """
    import asyncio, importlib, sys, time
    {before}
    import sysadm_nb as sa
    from sysadm_nb import loop

    async def cell() -> None:
        {nest}
        handle = loop.acquire()
        ticks = []

        async def mine() -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(mine())
        assert handle.run(asyncio.sleep(0.3, "waited")) == "waited"
        print("went on" if len(ticks) > 5 else "stood still")
        try:
            handle.run(asyncio.sleep(60), timeout=0.1)
        except sa.errors.RequestTimeout:
            print("timed out")
        {more}
        task.cancel()
        handle.release()

    asyncio.run(cell())
"""


def test_without_nest_a_blocking_call_stops_the_users_tasks() -> None:
    done = script(NEST.format(before="", nest="", more=""))
    assert (done.stdout, done.stderr) == ("stood still\ntimed out\n", "")


@pytest.mark.parametrize(
    "before",
    ["", "import nest_asyncio2; nest_asyncio2.apply(asyncio.new_event_loop())"],
    ids=["fresh", "applied"],
)
def test_nest_lets_the_users_tasks_go_on(before: str) -> None:
    text = NEST.format(before=before, nest="sa.nest()", more="print(asyncio.run(asyncio.sleep(0, 'run')))")
    done = script(text)
    assert done.stdout == "went on\ntimed out\nrun\n", done.stderr


def test_importing_patches_nothing() -> None:
    done = script(
        """
        import asyncio
        before = asyncio.run
        import sysadm_nb.monitor, sysadm_nb.loop
        assert asyncio.run is before and not hasattr(asyncio, "_nest_patched")
        """
    )
    assert done.returncode == 0, done.stderr


def test_nest_without_a_running_loop_says_that_it_is_not_needed() -> None:
    with pytest.raises(SysadmError, match="notebook cell"):
        loop.nest()


@pytest.mark.parametrize(
    ("python", "ipykernel", "module"),
    [
        ((3, 11), None, "nest_asyncio"),
        ((3, 11), (6, 29), "nest_asyncio"),
        ((3, 12), (7, 0), "nest_asyncio2"),
        ((3, 13), (7, 4), "nest_asyncio2"),
        ((3, 14), None, "nest_asyncio2"),
        ((3, 14), (6, 29), "nest_asyncio2"),
    ],
)
def test_nest_picks_the_module_that_is_safe(python, ipykernel, module) -> None:
    assert loop._nest_module(python, ipykernel) == module


def test_the_loop_thread_stays_itself_where_nest_asyncio_was_applied_before() -> None:
    """nest_asyncio patches the class of the kernel's loop; ours must not run in its slow loop."""
    done = script(
        """
        import asyncio, nest_asyncio2
        nest_asyncio2.apply(asyncio.new_event_loop())
        from sysadm_nb import loop
        handle = loop.acquire()
        assert type(handle.loop)._run_once is asyncio.BaseEventLoop._run_once
        assert handle.run(asyncio.wait_for(asyncio.sleep(0, 3), 5)) == 3
        handle.release()
        """
    )
    assert done.returncode == 0, done.stderr


class Kernel(SimpleNamespace):
    pass


def shell(monkeypatch, **kernel) -> None:
    monkeypatch.setattr(loop, "ipython", lambda: SimpleNamespace(kernel=Kernel(**kernel)))


def test_can_ask_at_a_terminal_only(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(closed=False, isatty=lambda: True))
    assert loop.can_ask()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(closed=False, isatty=lambda: False))
    assert not loop.can_ask()
    monkeypatch.setattr(sys, "stdin", None)
    assert not loop.can_ask()


def test_cannot_ask_from_another_thread(monkeypatch, handle) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(closed=False, isatty=lambda: True))

    async def ask() -> bool:
        return loop.can_ask()

    assert handle.run(ask()) is False


def test_can_ask_in_a_cell_that_was_run_by_itself(monkeypatch) -> None:
    shell(monkeypatch, _allow_stdin=True)
    assert loop.can_ask()
    shell(monkeypatch, _allow_stdin=False)  # nbclient, papermill
    assert not loop.can_ask()
    shell(monkeypatch, _allow_stdin=True, msg_queue=SimpleNamespace(qsize=lambda: 2))  # Run All, ipykernel 6
    assert not loop.can_ask()
    waiting = SimpleNamespace(_waiters=[object()])  # Run All, ipykernel 7
    shell(monkeypatch, _allow_stdin=True, _main_asyncio_lock=waiting)
    assert not loop.can_ask()
