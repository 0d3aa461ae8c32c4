"""Threads, event loops and kernels: the only file that knows them.

All I/O of this library runs on one shared daemon thread with an asyncio loop of its own, because a socket on
the kernel's loop dies of a ping time-out as soon as a cell computes for a while. The thread is counted: the
first `acquire` starts it, the last ``release()`` stops and joins it.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import importlib
import importlib.metadata
import inspect
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sysadm_nb.errors import Closed, RequestTimeout, SysadmError

__all__ = ["LoopThread", "acquire", "can_ask", "in_thread", "ipython", "nest", "on_loop_thread"]

T = TypeVar("T")

log = logging.getLogger("sysadm_nb")

THREAD_NAME = "sysadm_nb loop"
STOP_TIMEOUT_S = 10.0


if sys.platform == "win32":
    _new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:

    class _PlainLoop(asyncio.SelectorEventLoop):
        """A loop that stays itself when nest_asyncio patches the class of the kernel's loop."""

        run_forever = asyncio.BaseEventLoop.run_forever
        run_until_complete = asyncio.BaseEventLoop.run_until_complete
        _run_once = asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
        _check_running = asyncio.BaseEventLoop._check_running  # type: ignore[attr-defined]

    _new_loop = _PlainLoop


class _Shared:
    """The thread and its loop; at most one is current in a process."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self.users = 0
        self.forked = False
        self._stopping = False
        # A context of its own: ipykernel 7.0 finds the parent of a message in a context variable, and a
        # thread that has none cannot set the traits of a widget.
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._main,), name=THREAD_NAME, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._wind_up()
            asyncio.set_event_loop(None)
            self.loop.close()

    def _wind_up(self) -> None:
        """Cancel what is left and wait for it, as `asyncio.run` does."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=STOP_TIMEOUT_S))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        # While the process ends Python 3.12 starts no thread, so not the one that this would wait with;
        # by then the executor's own have been joined.
        with contextlib.suppress(RuntimeError):
            self.loop.run_until_complete(self.loop.shutdown_default_executor())

    def stop(self, wait: bool) -> None:
        if not self._stopping and not self.forked:  # a second time would break off the winding up
            self._stopping = True
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self.loop.call_soon_threadsafe(self.loop.stop)
        if wait and threading.current_thread() is not self.thread:
            self.thread.join(STOP_TIMEOUT_S)


_lock = threading.RLock()  # re-entrant: a finalizer may release while this thread acquires
_current: _Shared | None = None
_closing: set[LoopThread] = set()  # see release_after


def acquire() -> LoopThread:
    """Take a handle on the shared loop thread, starting it if nobody holds one.

    Returns
    -------
    LoopThread
        To be given back with ``release()``.

    Examples
    --------
    >>> import asyncio
    >>> handle = acquire()
    >>> handle.run(asyncio.sleep(0, "done"))
    'done'
    >>> handle.release()
    """
    global _current
    with _lock:
        if _current is None or not _current.thread.is_alive():
            _current = _Shared()
        _current.users += 1
        return LoopThread(_current)


def _give_back(shared: _Shared, wait: bool) -> None:
    global _current
    with _lock:
        shared.users -= 1
        if shared.users > 0 or shared is not _current:  # to stop a loop that winds up would break that off
            return
        _current = None
    shared.stop(wait)


@atexit.register
def _stop_at_exit() -> None:
    global _current
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _closing and time.monotonic() < deadline:
        time.sleep(0.01)
    with _lock:
        shared, _current = _current, None
    if shared is not None:
        shared.stop(wait=False)
    for thread in threading.enumerate():  # also one that nobody waited for
        if thread.name == THREAD_NAME:
            thread.join(STOP_TIMEOUT_S)


def _forget_after_fork() -> None:
    global _current, _lock
    if _current is not None:
        _current.forked = True  # the thread did not come along, and what it held is the parent's
    _current, _lock = None, threading.RLock()
    _closing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def on_loop_thread() -> bool:
    """Whether the caller runs on the shared loop thread, where nothing may block."""
    return threading.current_thread().name == THREAD_NAME


class LoopThread:
    """A counted handle on the shared loop thread; get one from `acquire`."""

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared

    def __repr__(self) -> str:
        return f"<LoopThread {'released' if self._shared is None else 'running'}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop of the thread.

        Raises
        ------
        Closed
            After ``release()``, and in a child that was forked since.
        """
        if self._shared is None:
            raise Closed("This handle on the loop thread was released: acquire() a new one.")
        if self._shared.forked:
            raise Closed("This belongs to the process that this one was forked from: connect again here.")
        return self._shared.loop

    def release(self, *, wait: bool = True) -> None:
        """Give the handle back; the last one stops the thread and joins it.

        Parameters
        ----------
        wait : bool
            False where blocking could dead-lock: in a finalizer, which may run inside anybody's lock.
        """
        shared, self._shared = self._shared, None
        if shared is not None:
            _give_back(shared, wait)

    def release_after(self, closing: concurrent.futures.Future[None]) -> None:
        """Give the handle back when something has closed; never waits, but the end of the process does.

        Parameters
        ----------
        closing : concurrent.futures.Future
            From ``start()``.
        """

        def release(_: object) -> None:
            self.release(wait=False)
            _closing.discard(self)

        _closing.add(self)
        closing.add_done_callback(release)

    def run_and_release(self, closing: Coroutine[Any, Any, None], timeout: float) -> None:
        """Wait for what closes something, as ``run`` does, and give the handle back.

        After Ctrl-C or a time-out it goes on by itself: half closed would be open for ever, as nobody closes
        a second time.
        """
        try:
            future = self.start(closing)
        except Closed:
            self.release()
            raise

        async def ended() -> None:
            await asyncio.shield(asyncio.wrap_future(future))

        try:
            self.run(ended(), timeout)
        except BaseException:
            self.release_after(future)
            raise
        self.release()

    def start(self, coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop thread and return its future at once."""
        try:
            return asyncio.run_coroutine_threadsafe(coro, self.loop)
        except Closed:
            coro.close()
            raise
        except RuntimeError as error:
            coro.close()
            raise Closed("The event loop was stopped before this call.") from error

    def call(self, fn: Callable[..., object], *args: object) -> None:
        """Have the loop thread call ``fn(*args)`` soon; returns at once, from any thread."""
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError as error:
            raise Closed("The event loop was stopped before this call.") from error

    def every(self, seconds: float, fn: Callable[[], object]) -> Callable[[], None]:
        """Have the loop thread call ``fn()`` every so many seconds, until undone.

        An exception in ``fn`` is logged and the timer goes on.

        Parameters
        ----------
        seconds : float
            Pause between two calls; the first comes after one pause.
        fn : callable
            Must not block.

        Returns
        -------
        callable
            Stops the timer; may be called from any thread, any number of times.
        """
        loop = self.loop
        stopped = threading.Event()

        def tick() -> None:
            if stopped.is_set():
                return
            try:
                fn()
            except Exception:
                log.exception("A timer's callback failed")
            if not stopped.is_set():
                loop.call_later(seconds, tick)

        self.call(loop.call_later, seconds, tick)
        return stopped.set

    def run(self, coro: Coroutine[Any, Any, T], timeout: float | None = 60) -> T:
        """Run a coroutine on the loop thread and wait for its result.

        Ctrl-C (the stop button of a notebook) interrupts the wait and cancels the coroutine.

        Parameters
        ----------
        coro : coroutine
        timeout : float or None
            Seconds to wait; None waits without limit.

        Raises
        ------
        RequestTimeout
            The coroutine took longer; it is cancelled.
        SysadmError
            Called on the loop thread itself, where waiting would stop everything: use ``await`` there.
        Closed
            The loop was stopped meanwhile.
        """
        if self._shared is not None and threading.current_thread() is self._shared.thread:
            coro.close()
            raise SysadmError(
                "A blocking call on the event loop thread would wait for itself: "
                "use the async face (await) in callbacks, or hand the work to another thread."
            )
        future = self.start(coro)
        try:
            return _wait(future, timeout)
        except concurrent.futures.CancelledError:
            raise Closed("The event loop was stopped while this call waited.") from None
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise  # the coroutine's own error
            raise RequestTimeout(f"No result within {timeout:g} s: pass a longer timeout.") from None
        finally:
            future.cancel()  # ends the coroutine after Ctrl-C or a time-out; does nothing to a finished one


def _wait(future: concurrent.futures.Future[T], timeout: float | None) -> T:
    kernel_loop = asyncio._get_running_loop() if _nested else None
    if kernel_loop is not None:
        return kernel_loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(future), timeout))
    if sys.platform != "win32":
        return future.result(timeout)
    # On Windows a lock cannot be interrupted: wake up often enough for Ctrl-C to be felt.
    left = float("inf") if timeout is None else timeout
    while left > 0:
        done, _ = concurrent.futures.wait([future], min(left, 0.25))
        if done:
            return future.result()
        left -= 0.25
    raise TimeoutError


_nested = False


def nest() -> None:
    """Let blocking calls in a notebook cell run nested on the kernel's loop.

    Without it a cell that waits (``monitor.wait_for(...)``) stops the user's own asyncio tasks in the kernel
    until it is done; with it they go on meanwhile, and ``asyncio.run`` works in a cell. It patches asyncio
    for the whole process with nest_asyncio or nest_asyncio2, whichever is safe here: so it happens only when
    called.

    Raises
    ------
    SysadmError
        There is no running loop to nest in, the loop cannot be patched, nest_asyncio was applied already
        where it loses messages of the kernel, or the safe module is not installed.
    """
    global _nested
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        raise SysadmError(
            "nest() is for a notebook cell or another place with a running event loop: "
            "here blocking calls and asyncio.run work without it."
        ) from None
    name = nest_module()
    patched_by_first = hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2")
    if patched_by_first and name == "nest_asyncio2":
        raise SysadmError(
            "nest_asyncio is applied in this kernel already, and with this Python and ipykernel it loses "
            "messages (later cells of Run All never run). Restart the kernel and call sysadm_nb.nest() "
            "instead of nest_asyncio.apply()."
        )
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise SysadmError(f"nest() needs {name} here: pip install {name.replace('_', '-')}") from None
    try:
        module.apply(running)
    except ValueError as error:  # uvloop and others
        raise SysadmError(f"The running event loop cannot be nested: {error}.") from None
    _nested = True


def nest_module() -> str:
    """Name of the module that `nest` uses in this environment."""
    return _nest_module(sys.version_info[:2], _version("ipykernel"))


def _nest_module(python: tuple[int, ...], ipykernel: tuple[int, ...] | None) -> str:
    """Name of the module that is safe here; nest_asyncio 1.6 is not on Python 3.14, nor on ipykernel 7."""
    if hasattr(asyncio, "_nest_asyncio2"):
        return "nest_asyncio2"  # applied already
    if python >= (3, 14) or (ipykernel is not None and ipykernel >= (7,)):
        return "nest_asyncio2"
    return "nest_asyncio" if _version("nest_asyncio") else "nest_asyncio2"


def _version(distribution: str) -> tuple[int, ...] | None:
    try:
        text = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def can_ask() -> bool:
    """Whether there is somebody to answer a question now.

    True at a terminal, and in a notebook cell that was run by itself. False where ``input()`` would wait for
    nobody: in scripts without a terminal, nbclient and papermill, on other threads than the main one, and in
    Run All, where more cells are waiting behind this one.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    kernel = getattr(ipython(), "kernel", None)
    if kernel is None:
        return bool(sys.stdin and not sys.stdin.closed and sys.stdin.isatty())
    return bool(getattr(kernel, "_allow_stdin", False)) and not _more_cells_wait(kernel)


def ipython() -> Any:
    """The running IPython shell, or None."""
    module = sys.modules.get("IPython")  # not imported: then there is no kernel either
    return module.get_ipython() if module is not None else None


def _more_cells_wait(kernel: Any) -> bool:
    """Whether the kernel has requests in hand after the one it runs (ipykernel 6 and 7 keep them apart)."""
    queue = getattr(kernel, "msg_queue", None)  # 6
    if queue is not None and queue.qsize():
        return True
    if getattr(getattr(kernel, "_main_asyncio_lock", None), "_waiters", None) or _requests_not_begun():  # 7
        return True
    try:
        thread = getattr(kernel, "shell_channel_thread", None)
        if thread is not None:  # 7 with subshells: requests come over an inner socket
            socket = thread.manager.get_shell_channel_to_subshell_pair(None).to_socket
        else:
            socket = kernel.shell_stream.socket
        import zmq

        # The descriptor, not zmq.EVENTS: asking for those takes the wake-up away from the kernel's own loop.
        return bool(select.select([socket.getsockopt(zmq.FD)], [], [], 0)[0])
    except Exception:  # another kernel than ipykernel, or a release that moved these: then asking is allowed
        return False


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Run a function that may block, or hang for ever, on a thread of its own, and await its result.

    Unlike the threads of an executor nobody waits for this one at exit: it is for other people's code, such
    as notifiers. A coroutine function gets an event loop of its own there, so that it cannot stop this one.
    To cancel the await leaves the thread to itself.
    """
    running = asyncio.get_running_loop()
    future: asyncio.Future[Any] = running.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result, failed = None, None
        try:
            result = fn(*args)
            if asyncio.iscoroutine(result):
                result = asyncio.run(result)
        except BaseException as error:
            # a future cannot hold a StopIteration
            failed = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            running.call_soon_threadsafe(deliver, result, failed)

    threading.Thread(target=work, name=f"{THREAD_NAME} work", daemon=True).start()
    return await future


def _requests_not_begun() -> bool:
    """Whether the kernel's loop holds a request that was taken off the wire and not begun."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # no loop runs here
        return False
    return any(
        inspect.iscoroutine(coro)
        and "ipykernel" in coro.cr_code.co_filename
        and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED
        for coro in (task.get_coro() for task in tasks)
    )
