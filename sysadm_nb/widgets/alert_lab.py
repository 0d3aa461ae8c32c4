"""AlertLab: try a rule on the past, move it until it is right, keep it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from .. import loop
from ..alerts import Armed, Rule, Rules
from ..alerts.armed import told_twice
from ..alerts.files import load
from ..errors import InputError
from ._base import View, tables_of
from .alert_lab_model import LabModel

CLOSE_S = 5.0


class AlertLab(View):
    """A workbench for alert rules on the past of a monitor or a recording.

    Parameters
    ----------
    source : Monitor, Recording or Tables
    notify : function, Apprise URL, or several, optional
        Whom a rule that is armed here tells.
    path : str or Path
        Where *Save* puts rules: a TOML file, which is added to.
    **setting
        What to begin with: ``table``, ``value``, ``sign``, ``threshold``, ``for_s``, ``until``, ``name``,
        ``severity``.

    Attributes
    ----------
    rule : Rule
        As it is set now.
    labels : DataFrame
        The periods marked as real incidents, for ``rules.evaluate(source, lab.labels)``.
    armed : Armed or None
        The rule on guard, once *Arm* was pressed.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> lab = AlertLab(sa.Tables(), threshold=85)
    >>> lab.rule
    Rule 'my rule': pools capacity_pct > 85 for 30min by server, pool → warning
    >>> lab.close()
    """

    module = "alert_lab"

    def __init__(
        self, source: Any, *, notify: Any = None, path: str | Path = "rules.toml", **setting: Any
    ) -> None:
        model = LabModel(tables_of(source))
        if setting:
            model.edit(**setting)
        self.lab = model
        self.armed: Armed | None = None
        self._notify = notify
        self._looking = False
        model.state.set("path", str(path))
        model.state.set("note", None)
        model.state.set("armed", None)
        super().__init__(source, model)

    @property
    def rule(self) -> Rule:
        return self.lab.setting.rule()

    @property
    def labels(self) -> Any:
        with self._lock:
            return self.lab.label_frame()

    def edit(self, **setting: Any) -> None:
        """Set something, as the controls do: ``lab.edit(threshold=85, for_s=3600)``."""
        self.lab.edit(**setting)

    # ---- the past goes on ----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Nothing: a look at a long past takes seconds, and this is called on the loop thread."""

    def _tick(self) -> None:
        super()._tick()
        if not self._closed and self._loop is not None and not self._looking and self.lab.due(time.time()):
            self._looking = True
            self._loop.start(self._guard(self._look()))

    async def _look(self) -> None:
        """At the rows that are new; on a thread of its own, for the loop's has sockets to serve."""
        try:
            await loop.in_thread(self.lab.refresh, time.time())
        finally:
            self._looking = False

    # ---- what the browser asks for; on the loop thread -----------------------------------------------------

    async def do_edit(self, setting: dict[str, Any], n: int = 0) -> None:
        """Controls moved. The answer does not wait for the timer: the chart follows the hand."""

        def work() -> None:
            try:
                self.lab.edit(**setting)
            finally:
                with self._lock:
                    state = self.lab.state
                    state.set("answered", max(n, state.values.get("answered", 0)))

        try:
            await loop.in_thread(work)
        finally:
            self._send_now()

    async def do_compare(self, on: bool) -> None:
        await self._then(self.lab.compare, on)

    async def do_swap(self) -> None:
        await self._then(self.lab.swap)

    async def do_mark(self, start: int, end: int, key: str | None = None) -> None:
        await self._then(self.lab.mark, start, end, key)

    async def do_unmark(self, position: int) -> None:
        await self._then(self.lab.unmark, position)

    async def do_toggle(self, start: int, end: int, key: str) -> None:
        await self._then(self.lab.toggle, start, end, key)

    async def _then(self, work: Any, *args: Any) -> None:
        await loop.in_thread(work, *args)
        self._send_now()

    async def do_save(self, path: str) -> None:
        """Put the rule into a file; one of the same name is replaced."""
        if not path.strip().endswith(".toml"):
            raise InputError("Rules are saved in a TOML file: give a name that ends in .toml.")

        def write() -> int:
            file = Path(path.strip())
            rules = load(file) if file.exists() else Rules()
            if self.rule.name in rules:
                rules.remove(self.rule.name)
            rules.add(self.rule)
            rules.save(file)
            return len(rules)

        count = await loop.in_thread(write)
        with self._lock:
            self.lab.state.set("path", path.strip())
            self.lab.state.set(
                "note", f"Saved in {path.strip()}, which has {count} rule{'s' * (count > 1)} now."
            )
        self._send_now()

    async def do_arm(self) -> None:
        """Put the rule on guard, in place of the one armed here before."""
        source = self.source
        if source is None:
            raise InputError("The monitor is gone: connect again and open a new lab.")
        rules = Rules([self.rule])
        before, self.armed = self.armed, None
        if before is not None:
            before.disarm()
        twice = told_twice(source, rules)
        self.armed = Armed(source, rules, self._notify, None, None)
        with self._lock:
            self.lab.state.set("armed", self.rule.name)
            told = "" if self._notify is not None else " It tells nobody: pass notify= to AlertLab."
            self.lab.state.set("note", f"“{self.rule.name}” is armed.{told} {twice}".strip())
        self._send_now()

    def do_disarm(self) -> None:
        if self.armed is not None:
            self.armed.disarm()
            self.armed = None
        self.lab.state.set("armed", None)
        self.lab.state.set("note", "Disarmed.")
        self._send_now()

    def do_forget_note(self) -> None:
        self.lab.state.set("note", None)

    def _send_now(self) -> None:
        with self._lock:
            patch = self.lab.state.take()
            if patch is not None and not self._closed:
                self._message("patch", msgspec.json.encode(patch))

    def close(self) -> None:
        """Close the lab; a rule armed in it stays on guard (``lab.armed.disarm()``)."""
        # what is being worked out ends first, so that no thread is left; a very long look is not waited for
        waited = not loop.on_loop_thread() and self.lab.working.acquire(timeout=CLOSE_S)
        try:
            super().close()
        finally:
            if waited:
                self.lab.working.release()
