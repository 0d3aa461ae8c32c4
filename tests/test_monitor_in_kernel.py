"""The monitor in a real kernel: errors, questions, interrupts, re-run cells, nested waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("ipykernel")
from jupyter_client.manager import start_new_kernel

from tests.client.peers import peer, self_signed, silent, web
from tests.client.scripted import scripted
from tests.test_monitor import elsewhere

pytestmark = [
    pytest.mark.leaves("the client of a kernel keeps sockets of its own"),
    pytest.mark.timeout(90),
]


class Kernel:
    """A kernel and what its cells said."""

    def __init__(self) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.run("import sysadm_nb as sa, asyncio, threading, time")

    def send(self, code: str, *, ask: bool = False) -> str:
        return self.client.execute(code, allow_stdin=ask, stop_on_error=False)

    def answer(self, text: str) -> str:
        """Answer a question of the running cell; returns the question."""
        question = self.client.get_stdin_msg(timeout=60)["content"]["prompt"]
        self.client.input(text)
        return question

    def result(self, request: str) -> tuple[str, str]:
        """The error's name (or ``"ok"``) of a cell, and all that it printed."""
        printed = []
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=90)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    printed.append(content["text"])
                case "execute_result":
                    printed.append(content["data"]["text/plain"])
                case "error":
                    return content["ename"], content["evalue"]
                case "status" if content["execution_state"] == "idle":
                    return "ok", "".join(printed)
        raise AssertionError("the cell did not end")

    def run(self, code: str, *, ask: bool = False) -> tuple[str, str]:
        return self.result(self.send(code, ask=ask))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture(autouse=True)
def clean(kernel: Kernel) -> Iterator[None]:
    yield
    assert kernel.run("sa.close_all(); time.sleep(0.2); print(threading.active_count())")[0] == "ok"


def connect(url: str, **options: object) -> str:
    told = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"monitor = sa.connect({url!r}, timeout=1{told})"


def test_each_error_in_a_cell(kernel: Kernel, tmp_path) -> None:
    login = {"user": "root", "password": "wrong"}
    tls, first, _ = self_signed(tmp_path, "old")
    with ExitStack() as stack:
        script = stack.enter_context(elsewhere(scripted()))
        quiet = stack.enter_context(elsewhere(peer(silent)))
        other = stack.enter_context(elsewhere(peer(web)))
        secure = stack.enter_context(elsewhere(scripted(ssl=tls)))
        gone = stack.enter_context(ExitStack()).enter_context(elsewhere(peer(web)))
        expected = {
            connect(script.url, **login): ("LoginRefused", "wrong user name or password"),
            connect(script.url, user="root"): ("PasswordNeeded", "pass password="),
            connect("wss://no-such-host.invalid", **login): ("HostUnknown", "not known"),
            connect(f"ws://127.0.0.1:{quiet}", **login): ("ServerSilent", "did not answer within 1 s"),
            connect(f"ws://127.0.0.1:{other}", **login): ("NotSysadm", "HTTP status 404"),
            connect(secure.url, **login): ("CertificateUnknown", f'fingerprint="{first}"'),
            connect(secure.url, fingerprint="00" * 32, **login): ("CertificateChanged", first),
        }
        for code, (name, said) in expected.items():
            started = time.monotonic()
            told = kernel.run(code)
            assert told[0] == name, told
            assert said in told[1]
            assert time.monotonic() - started < 15
        assert script.password not in str(expected)
    told = kernel.run(connect(f"ws://127.0.0.1:{gone}", **login))
    assert told[0] == "PortRefused"
    assert kernel.run("print(len([m for m in sa.connecting.open_monitors if not m.closed]))") == ("ok", "0\n")


def test_a_new_certificate_and_the_password_are_asked_for(kernel: Kernel, tmp_path) -> None:
    tls, fingerprint, _ = self_signed(tmp_path, "asked")
    with elsewhere(scripted(ssl=tls)) as script:
        request = kernel.send(connect(script.url, user="root") + "; monitor.servers[0].state", ask=True)
        assert fingerprint in kernel.answer("y")
        assert not script.asked("rpc/auth")
        assert kernel.answer("secret") == f"Password of root on 127.0.0.1:{script.port}: "
        assert kernel.result(request) == ("ok", "'connected'")
        assert kernel.run("monitor.close()")[0] == "ok"
        again = connect(script.url, user="root", password="secret") + "; monitor.servers[0].state"
        assert kernel.run(again, ask=True) == ("ok", "'connected'")  # trusted now: nobody is asked
        kernel.run("monitor.close()")


def test_nobody_is_asked_in_run_all(kernel: Kernel) -> None:
    """All cells are sent at once there; the browser would answer, but nobody looks."""
    code = "from sysadm_nb import loop; time.sleep(0.3); print(loop.can_ask())"
    assert kernel.run(code, ask=True) == ("ok", "True\n")
    assert kernel.run(code, ask=False) == ("ok", "False\n")
    cells = [kernel.send(code, ask=True) for _ in range(3)]
    assert [kernel.result(cell)[1] for cell in cells] == ["False\n", "False\n", "True\n"]


@pytest.mark.parametrize("last_line", ["", "\nmonitor", "\nmonitor.events"])
def test_fifty_re_runs_leave_one_connection(kernel: Kernel, last_line: str) -> None:
    assert kernel.run("server = sa.serve(sources=[])")[0] == "ok"
    for _ in range(50):
        assert kernel.run(f"monitor = sa.connect(server){last_line}")[0] == "ok"
    count = "len([m for m in sa.connecting.open_monitors if not m.closed])"
    assert kernel.run(f"print({count}, monitor.servers[0].state)") == ("ok", "1 connected\n")
    assert kernel.run("time.sleep(0.5); print('1 client;' in repr(server))") == ("ok", "True\n")


def test_re_runs_of_a_cell_that_only_shows_it(kernel: Kernel) -> None:
    assert kernel.run("server = sa.serve(sources=[])")[0] == "ok"
    for _ in range(10):
        assert kernel.run("sa.connect(server)")[0] == "ok"
    count = "len([m for m in sa.connecting.open_monitors if not m.closed])"
    assert kernel.run(f"print({count}, _.servers[0].state)") == ("ok", "1 connected\n")


@pytest.mark.parametrize("cell", ["sa.demo(history='1h')", "monitor = sa.demo(history='1h')\nmonitor"])
def test_re_runs_of_a_cell_that_shows_a_demo_leave_one_server(kernel: Kernel, cell: str) -> None:
    for _ in range(5):
        assert kernel.run(cell)[0] == "ok"
    count = "len([m for m in sa.connecting.open_monitors if not m.closed])"
    assert kernel.run(f"print({count}, _.servers[0].state)") == ("ok", "1 connected\n")


def test_a_demo_in_a_variable_stays_beside_another(kernel: Kernel) -> None:
    assert kernel.run("first = sa.demo(history='1h')\nfirst")[0] == "ok"
    assert kernel.run("second = sa.demo(seed=1, history='1h')\nsecond")[0] == "ok"
    assert kernel.run("print(first.closed, second.closed)") == ("ok", "False False\n")


def test_an_interrupt_ends_the_wait_and_the_kernel_goes_on(kernel: Kernel) -> None:
    kernel.run("server = sa.serve(sources=[]); monitor = sa.connect(server)")
    request = kernel.send("monitor.wait_for('system-state', timeout=None)")
    time.sleep(1)
    kernel.manager.interrupt_kernel()
    assert kernel.result(request)[0] == "KeyboardInterrupt"
    assert kernel.run("monitor.request('rpc', 'identify')['type']") == ("ok", "'server'")
    assert kernel.run("len(monitor._fleet._waiters)") == ("ok", "0")


def test_jobs_run_while_a_cell_blocks(kernel: Kernel) -> None:
    kernel.run("server = sa.serve(sources=[], allow_run=True); monitor = sa.connect(server)")
    code = "job = monitor.run('echo done'); time.sleep(2); print(job.state, repr(job.log))"
    assert kernel.run(code) == ("ok", "finished 'done\\n'\n")


def test_nested_waits_let_the_users_tasks_go_on_and_lose_no_cell() -> None:
    kernel = Kernel()  # of its own: nest() patches asyncio for good
    try:
        kernel.run("server = sa.serve(sources=[], allow_run=True); monitor = sa.connect(server); sa.nest()")
        start = """
        ticks = []
        async def mine():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)
        task = asyncio.get_running_loop().create_task(mine())
        """
        cells = [kernel.send("\n".join(line[8:] for line in start.splitlines()))]
        wait = "before = len(ticks); job = monitor.run('sleep 1').wait(30); print(len(ticks) - before > 20)"
        cells += [kernel.send(wait) for _ in range(3)]
        cells.append(kernel.send("asyncio.run(asyncio.sleep(0.1, 'ran'))"))
        cells.append(kernel.send("await asyncio.sleep(0.1); task.cancel(); print('last')"))
        results = [kernel.result(cell) for cell in cells]
        assert results == [("ok", ""), *[("ok", "True\n")] * 3, ("ok", "'ran'"), ("ok", "last\n")]
        assert kernel.run("sa.close_all(); print(threading.active_count() < 20)") == ("ok", "True\n")
    finally:
        kernel.close()


def test_without_nest_the_wait_works_too_and_tasks_go_on_after_it(kernel: Kernel) -> None:
    kernel.run("server = sa.serve(sources=[], allow_run=True); monitor = sa.connect(server)")
    code = "monitor.run('sleep 0.2').wait(30).state"
    assert kernel.run(code) == ("ok", "'finished'")
