"""The base of every view: a model in Python, one timer on the loop thread, patches to the browser.

How a view is made
------------------
1. A **model**: a plain class with no kernel, comm or thread in it (the `Model` protocol below). Its
   ``refresh(now)`` reads what is new from the tables and puts it into ``self.state`` (see `_state.State`:
   rows of cells, named values, growing texts). Test it with nothing but a `Tables`.
2. A **view**: a subclass of `View` that names its browser module and its controls::

       class PoolsView(View):
           module = "pools"                    # pools.js and pools.css, beside base.js and base.css
           controls = ("span", "sort")         # traits that the browser may set, in step in all copies
           span = Enum(["hour", "day"], "day")

           def __init__(self, source, **traits):
               super().__init__(source, PoolsModel(tables_of(source)), **traits)

           def controls_changed(self):         # loop thread, lock held: after a trait of `controls` changed
               self.model.span = self.span

           async def do_kill(self, job):       # loop thread: the browser sent {"do": "kill", "job": 12}
               ...

3. A **browser module**: ``NAME.js`` ends in ``export default view(render)``; ``base.js`` and ``elements.js``
   go first. ``render({store, root, signal})`` builds its elements and returns ``draw()``, called once a frame
   after a change. Text of a server goes into the page by ``textContent`` alone.

What the base does: every 0.25 s the loop thread calls ``model.refresh`` and sends what changed as one custom
message, so a view never sends more than 4 messages a second, however many events came. The whole state goes
out with the comm, on a reload, and when a browser says it missed a message; until a browser has answered at
all it is repeated at growing pauses, because a busy kernel cannot hear the browser ask.
The version is confirmed after the last patch, so that a dropped last message is noticed too. Exceptions in
refreshes and in ``do_...`` are shown beside the view. ``close()`` frees the timer and the comm and leaves the
last state in the notebook as static HTML.
"""

from __future__ import annotations

import inspect
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any, ClassVar, Protocol

import anywidget
import msgspec
from traitlets import Unicode

from .. import loop
from ..errors import SysadmError
from ._state import State

PERIOD_S = 0.25
RESEND_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # after creation, until a browser answered
CONFIRM_S = (1.5, 6.0, 20.0)  # after the last patch
STATIC_S = 10.0  # between two updates of the static form in the notebook's file


class Model(Protocol):
    """What a view draws; free of kernels, comms and threads."""

    state: State

    def refresh(self, now: float) -> None:
        """Put what is new into ``state``; ``now`` is the time in seconds since the epoch."""

    def summary(self) -> str:
        """One line: what there is and how it stands."""

    def text(self) -> str:
        """The state as plain text, for a terminal; free of control characters."""

    def html(self) -> str:
        """The state as static HTML without scripts; everything from a server is escaped."""


def tables_of(source: Any) -> Any:
    """The tables of a monitor or a recording, or the tables themselves."""
    tables = getattr(source, "tables", source)
    if not (hasattr(tables, "count") and hasattr(tables, "since")):
        raise TypeError(
            f"A view shows a monitor, a recording or tables, not {type(source).__name__}: "
            "pass what connect(), demo(), open_recording() or Tables() returned."
        )
    return tables


def _package_text(*names: str) -> str:
    folder = files(__package__)
    return "\n".join(path.read_text("utf-8") for name in names if (path := folder / name).is_file())


class View(anywidget.AnyWidget):
    """Base of the live views; see the top of this module for how to make one.

    Parameters
    ----------
    source : Monitor, Recording or Tables
        Where the data comes from. A view holds a monitor weakly: it does not keep a connection open.
    model : Model
        What is drawn.
    **traits
        Starting values of the view's traits.
    """

    module: ClassVar[str] = ""
    parts: ClassVar[tuple[str, ...]] = ()  # further files between base.js and the module
    controls: ClassVar[tuple[str, ...]] = ()

    _state = Unicode().tag(sync=True, to_json=lambda _, view: view._full().decode())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "module" in cls.__dict__:
            cls._esm = _package_text("base.js", "elements.js", *cls.parts, f"{cls.module}.js")
            cls._css = _package_text("base.css", f"{cls.module}.css")
        super().__init_subclass__(**kwargs)

    def __init__(self, source: Any, model: Model, **traits: Any) -> None:
        unknown = [name for name in traits if not self.has_trait(name)]
        if unknown:
            has = ", ".join(self.controls) or "none"
            raise TypeError(f"{type(self).__name__} has no option {unknown[0]!r}; it has {has}.")
        self.model = model
        self._source = weakref.ref(source)
        # Between the loop thread's refresh and a full state asked for elsewhere; a model that is worked on by
        # further threads brings it along.
        self._lock = getattr(model, "guard", None) or threading.RLock()
        self._loop: loop.LoopThread | None = None
        self._undo: list[Callable[[], None]] = []
        self._static: list[Any] = []
        self._static_due = 0.0
        self._static_version = -1
        self._answered = False
        self._send_full = False
        self._born = self._patched = time.monotonic()
        self._resends, self._confirms = list(RESEND_S), list(CONFIRM_S)
        self._closed = False
        super().__init__(**traits)
        with self._lock:
            self._take_controls()
        if self.controls:
            self.observe(self._control_changed, list(self.controls))
        self.on_msg(self._on_message)
        self._loop = loop.acquire()
        self._undo.append(self._loop.every(PERIOD_S, self._tick))
        on_close = getattr(source, "on_close", None)
        if on_close is not None:
            self._undo.append(on_close(self.close))

    @property
    def source(self) -> Any:
        """The monitor, recording or tables shown; None once nobody else holds it."""
        return self._source()

    # ---- from Python to the browser -------------------------------------------------------------------

    def _refresh(self) -> None:
        try:
            self.model.refresh(time.time())
        except Exception as error:
            self._show_error(error)

    def _full(self) -> bytes:
        """The whole state, fresh, as JSON."""
        with self._lock:
            self._refresh()
            patch = self.model.state.take()
            if patch is not None and self._answered:
                self._message("patch", msgspec.json.encode(patch))
            return msgspec.json.encode(self.model.state.full())

    def _tick(self) -> None:
        """Once every period, on the loop thread: at most one message."""
        if self._closed:
            return
        now = time.monotonic()
        with self._lock:
            self._refresh()
            patch = self.model.state.take()
            if patch is not None:
                self._patched, self._confirms = now, list(CONFIRM_S)
            if not self._answered and self._resends and now - self._born > self._resends[0]:
                del self._resends[0]
                self._send_full = True
            if self._send_full:
                self._send_full = False
                self._message("full", msgspec.json.encode(self.model.state.full()))
            elif patch is not None:
                self._message("patch", msgspec.json.encode(patch))
            elif self._confirms and now - self._patched > self._confirms[0]:
                del self._confirms[0]
                self._message("version", msgspec.json.encode({"v": self.model.state.version}))
            elif self._static and self._static_version != self.model.state.version and now > self._static_due:
                self._static_due = now + (STATIC_S if self._answered else 1.0)
                self._update_static()

    def _message(self, kind: str, body: bytes) -> None:
        if self.comm is not None:
            # JSON in a string: encoded here at a tenth of what the kernel's own encoder takes for the object.
            self.send({"kind": kind, "body": body.decode()})

    # ---- from the browser to Python -------------------------------------------------------------------

    def _on_message(self, _: Any, content: Any, buffers: Any) -> None:
        """On the kernel's main thread or a subshell's: hands the work over, waits for nothing."""
        if not isinstance(content, dict) or self._closed or self._loop is None:
            return
        if content.get("do") == "set":
            try:
                for name, value in content["values"].items():
                    if name in self.controls:
                        setattr(self, name, value)
            except Exception as error:
                self._show_error(error)
        else:
            self._loop.call(self._act, content)

    def _act(self, content: dict[str, Any]) -> None:
        arguments = dict(content)
        action = getattr(self, f"do_{arguments.pop('do', '')}", None)
        if action is None:
            return
        try:
            with self._lock:
                result = action(**arguments)
            if inspect.iscoroutine(result) and self._loop is not None:
                self._loop.start(self._guard(result))
        except Exception as error:
            self._show_error(error)

    async def _guard(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:
            self._show_error(error)

    def do_open(self) -> None:
        """A browser side came up or missed something: send it everything."""
        self._answered = self._send_full = True

    def do_dismiss(self) -> None:
        """The reader has seen the error."""
        self.model.state.set("error", None)

    def _show_error(self, error: BaseException) -> None:
        name = "" if isinstance(error, SysadmError) else f"{type(error).__name__}: "
        with self._lock:
            self.model.state.set("error", f"{name}{error}"[:2000])

    def _control_changed(self, change: Any) -> None:
        with self._lock:
            try:
                self._take_controls()
            except Exception as error:
                self._show_error(error)

    def _take_controls(self) -> None:
        self.controls_changed()
        self.model.state.set("controls", {name: getattr(self, name) for name in self.controls})

    def controls_changed(self) -> None:
        """Called with the lock held after a trait named in ``controls`` changed."""

    # ---- static and text forms ------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.model.summary()}>"

    def text(self) -> str:
        """The state as plain text, as a terminal shows it."""
        with self._lock:
            self._refresh()
            return self.model.text()

    def html(self) -> str:
        """The state as static HTML without scripts."""
        with self._lock:
            self._refresh()
            return self.model.html()

    def _ipython_display_(self, **_: Any) -> None:
        """Two outputs: the live view, and its static form, which the live one hides.

        The second is what a saved or exported notebook shows; it can be brought up to date without touching
        the live view.
        """
        from IPython import get_ipython
        from IPython.display import display

        if getattr(get_ipython(), "kernel", None) is None:
            print(self.text())
            return
        if not self._closed:
            bundle = anywidget.AnyWidget._repr_mimebundle_(self)
            display(bundle[0] if isinstance(bundle, tuple) else bundle, raw=True)  # type: ignore[no-untyped-call]
        self.display_static()

    def display_static(self) -> None:
        """Put the static form into the cell's output, to be kept up to date until `close`."""
        from IPython.display import display

        handle = display(self._static_bundle(), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        if not self._closed and handle is not None:
            self._static = [
                *self._static[-7:],
                handle,
            ]  # the newest copies; of a cell run again only the last is there

    def _static_bundle(self) -> dict[str, str]:
        kind = "last" if self._closed else "static"
        note = ""
        if self._closed and self._source() is None:
            note = (
                "<p><em>Nobody held the monitor of this view any more, so it closed itself. Keep it in a "
                "variable: <code>monitor = sa.demo()</code>, then show a view of it.</em></p>"
            )
        body = f'<div class="sysadm-nb-{kind}">{self.html()}{note}</div>'
        return {"text/html": body, "text/plain": ""}

    def _update_static(self) -> None:
        bundle = self._static_bundle()
        self._static_version = self.model.state.version
        for handle in self._static:
            handle.update(bundle, raw=True)

    # ---- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the timer and close the comm; copies on display turn into their static last state."""
        if self._closed:
            return
        with self._lock:
            self._refresh()
            self._closed = True
            self._undo, undo = [], self._undo
            for stop in undo:
                stop()
            if self._static:
                self._update_static()
            self._static = []
            self.layout.close()
            super().close()
            held, self._loop = self._loop, None
        if held is not None:
            held.release(wait=not loop.on_loop_thread())

    def __del__(
        self,
    ) -> None:  # ipywidgets closes here, with locks; the comm keeps a view alive until close()
        pass
