"""Views without a kernel: a comm that keeps what is sent, and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import comm
import pytest
from comm.base_comm import BaseComm

from sysadm_nb import Tables, wire
from sysadm_nb.widgets import _base


class KeptComm(BaseComm):
    """Keeps the messages instead of sending them."""

    opened: list[KeptComm] = []  # noqa: RUF012

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
    ) -> None:
        if msg_type == "comm_open":
            self.sent: list[dict[str, Any]] = []
            self.state = data["state"]
            self.closed = False
            KeptComm.opened.append(self)
        elif msg_type == "comm_close":
            self.closed = True
        elif data.get("method") == "custom":
            content = data["content"]
            self.sent.append({"kind": content["kind"]} | json.loads(content["body"]))

    def say(self, **content: Any) -> None:
        """A message from the browser."""
        self.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Views are refreshed by the test alone; ``clock(2.5)`` lets their time pass."""
    now = [1000.0]
    monkeypatch.setattr(_base, "PERIOD_S", 1e6)
    monkeypatch.setattr(_base.time, "monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


@pytest.fixture
def comms(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[KeptComm]]:
    """All comms that were opened; none is left open."""
    KeptComm.opened = []
    monkeypatch.setattr(comm, "create_comm", lambda **options: KeptComm(**options))
    yield KeptComm.opened
    assert [kept.target_name for kept in KeptComm.opened if not kept.closed] == []


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def job(tables: Tables) -> Callable[..., None]:
    """Sends an event of a subsystem's job: ``job("one", "running", ["sleep 1"], logs=["x"], codes=[0])``."""

    def send(
        process_id: str,
        state: str,
        commands: list[str],
        *,
        logs: list[str] | None = None,
        codes: list[int] | None = None,
        current: str | None = None,
        server: str = "nas",
        minute: int = 15,
        **fields: Any,
    ) -> None:
        details: dict[str, Any] = {"process_id": process_id, "state": state, "cmd_list": commands}
        details |= dict(zip(commands, logs or [], strict=False))
        details |= {f"return_codes/{c}": str(code) for c, code in zip(commands, codes or [], strict=False)}
        if state != "pending":
            details["time_started"] = f"2026-11-23T07:{minute}:00"
        if state == "finished":
            details["time_finished"] = f"2026-11-23T07:{minute}:10"
        if current is not None:
            details["current_cmd"] = current
        args = {"event_system": "sysadm/pkg", "action": "pkg_install", "state": state} | fields
        tables.append(wire.encode_event("dispatcher", args | {"process_details": details}), server=server)

    return send
