"""All views of a monitor in one layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import GridBox, Layout, VBox

from .connection import ConnectionBadge
from .events import EventsView
from .jobs import JobsView
from .life_preserver import LifePreserverView
from .pools import PoolsView


class Dashboard(VBox):  # type: ignore[misc]
    """Connections, pools, jobs, backups and events, in one or two columns as the page is wide.

    Attributes
    ----------
    badge, pools, jobs, backups, events : View
        The views; each can be used by itself too.
    """

    def __init__(self, source: Any) -> None:
        self.badge = ConnectionBadge(source)
        self.pools = PoolsView(source)
        self.jobs = JobsView(source)
        self.backups = LifePreserverView(source)
        self.events = EventsView(source)
        self._undo: Callable[[], None] | None = None
        for view in self.views:
            view.layout.min_width = "0"
        columns = "repeat(auto-fit, minmax(min(100%, 560px), 1fr))"
        beside = Layout(
            grid_template_columns=columns, grid_gap="12px", align_items="flex-start", width="100%"
        )
        self._pair = GridBox([self.backups, self.events], layout=beside)
        super().__init__(
            [self.badge, self.pools, self.jobs, self._pair], layout=Layout(width="100%", grid_gap="12px")
        )
        on_close = getattr(source, "on_close", None)
        if on_close is not None:
            self._undo = on_close(self.close)

    @property
    def views(self) -> list[Any]:
        """The views, in the order of the layout."""
        return [self.badge, self.pools, self.jobs, self.backups, self.events]

    def __repr__(self) -> str:
        return "\n".join(["<Dashboard", *(f"  {view.model.summary()}" for view in self.views)]) + ">"

    def _ipython_display_(self, **_: Any) -> None:
        from IPython import get_ipython
        from IPython.display import display

        if getattr(get_ipython(), "kernel", None) is None:
            print("\n\n".join(view.text() for view in self.views))
            return
        if self.comm is not None:
            bundle = VBox._repr_mimebundle_(self)
            display(bundle | {"text/plain": ""}, raw=True)  # type: ignore[no-untyped-call]
        for view in self.views:
            view.display_static()

    def close(self) -> None:
        """Close all views; their last state stays on display as static HTML."""
        if self._undo is not None:
            undo, self._undo = self._undo, None
            undo()
        for view in getattr(self, "views", ()) if self.comm is not None else ():
            view.close()
        if self.comm is not None:
            for box in (self._pair, self):
                box.layout.close()
            self._pair.close()
            super().close()

    def __del__(self) -> None:  # as in View: the comm keeps it alive until close()
        pass


def dashboard(source: Any) -> Dashboard:
    """All views of a monitor, a recording or tables in one layout.

    Parameters
    ----------
    source : Monitor, Recording or Tables

    Returns
    -------
    Dashboard
        Its ``close()`` closes the views; so does closing the monitor.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> board = dashboard(sa.Tables())
    >>> board.jobs
    <JobsView: 0 jobs>
    >>> board.close()
    """
    return Dashboard(source)
