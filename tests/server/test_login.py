"""Who gets in, who does not, and what nobody gets to see."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import sysadm_nb as sa
from sysadm_nb.errors import InputError
from sysadm_nb.server import Limits
from sysadm_nb.server import users as users_module
from sysadm_nb.server.limits import Limits as L
from sysadm_nb.server.login import Failures, Tokens
from sysadm_nb.server.session import TOO_MANY
from sysadm_nb.server.users import Users, remove_user, save_user
from tests.conformance.replay import sign
from tests.server.wire_client import dial

USERS = {"admin": "secret", "eve": ("look", "operator")}


def test_nobody_unauthenticated_sees_more_than_identify() -> None:
    with (
        sa.serve(users=USERS, sources=[]) as server,
        dial(server.url) as inside,
        dial(server.url, login=False) as stranger,
    ):
        inside.request("events", "subscribe", ["dispatcher", "system-state", "life-preserver"])
        assert stranger.request("rpc", "identify", "")["args"]["type"] == "server"
        for namespace, name in (("rpc", "query"), ("events", "subscribe"), ("rpc", "logs"), ("no", "such")):
            args = ["system-state"] if namespace == "events" else {"action": "read_logs"}
            assert stranger.request(namespace, name, args)["args"]["code"] == "401"
        for name in ("system-state", "life-preserver", "dispatcher", "ups"):
            server.publish(name, {"state": "x"})
        inside.until(lambda: len(inside.events()) == 4)
        assert stranger.receive(0.2) is None
        assert [frame["name"] for frame in stranger.frames] == ["response"] + ["error"] * 4


def test_a_token_is_good_whole_only_and_ends_with_auth_clear() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as first:
        token = first.request("rpc", "auth", {"username": "admin", "password": "secret"})["args"][0]
        with dial(server.url, login=False) as second:
            for wrong in (token[1:], token[-5:], "", token + "x"):
                assert second.request("rpc", "auth_token", {"token": wrong})["name"] == "error"
            assert second.request("rpc", "auth_token", {"token": token})["args"] == [token, 900]
            assert second.request("rpc", "query", {})["name"] == "response"
            first.send("rpc", "auth_clear", "")
            assert first.request("rpc", "query", {})["args"]["code"] == "401"
            assert second.request("rpc", "query", {})["args"]["code"] == "401"


def test_an_expired_token_ends_requests_but_not_events() -> None:
    with (
        sa.serve(users=USERS, sources=[], limits=Limits(token_life=0.2)) as server,
        dial(server.url) as client,
    ):
        client.request("events", "subscribe", "system-state")
        assert client.receive(0.4) is None
        assert client.request("rpc", "query", {})["args"]["code"] == "401"
        server.publish("system-state", {"hostname": "nas"})
        client.until(lambda: client.events("system-state") == [{"hostname": "nas"}])


def test_operators_may_look_and_not_touch() -> None:
    with sa.serve(users=USERS, sources=[], allow_run=True) as server:
        for name, args in (
            ("dispatcher", {"action": "run", "x": "true"}),
            ("dispatcher", {"action": "kill", "job_id": "x"}),
            ("settings", {"action": "register_ssl_cert", "pub_key": "AAAA"}),
            ("settings", {"action": "revoke_ssl_cert", "pub_key": "AAAA", "user": "admin"}),
        ):
            with dial(server.url, login=False) as eve:
                eve.login("eve", "look")
                assert set(eve.request("rpc", "query", {})["args"].values()) == {"read"}
                assert eve.request("rpc", "dispatcher", {"action": "list"})["args"] == {"jobs": {}}
                assert eve.request("rpc", name, args)["args"]["code"] == "403"
                assert eve.wait_closed() == (1000, TOO_MANY)


def test_nobody_runs_commands_unless_the_owner_said_so() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        assert client.request("rpc", "query", {})["args"]["rpc/dispatcher"] == "read"
        assert client.request("rpc", "dispatcher", {"action": "run", "x": "true"})["args"]["code"] == "403"
        assert client.wait_closed() == (1000, TOO_MANY)


def test_five_failures_block_the_address() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as inside:
        with dial(server.url, login=False) as stranger:
            for _ in range(4):
                wrong = {"username": "admin", "password": "wrong"}
                assert stranger.request("rpc", "auth", wrong)["args"]["code"] == "401"
            assert stranger.request("rpc", "auth_token", {"token": "wrong"})["args"]["code"] == "401"
            assert stranger.wait_closed() == (1000, TOO_MANY)
        with dial(server.url, login=False) as stranger:
            right = {"username": "admin", "password": "secret"}
            assert stranger.request("rpc", "auth", right)["args"]["code"] == "401"
            assert stranger.wait_closed() == (1000, TOO_MANY)
        # Who was inside stays.
        assert inside.request("rpc", "query", {})["name"] == "response"


def test_guesses_at_the_same_time_are_no_more_than_five(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for their turn to be hashed do not get one once their address is blocked."""
    hashed: list[str] = []
    hash_it = users_module._hash

    def counted(password: str, *rest: Any) -> bytes:
        hashed.append(password)
        return hash_it(password, *rest)

    save_user(tmp_path / "users", "admin", "right")
    with sa.serve(users=tmp_path / "users", sources=[]) as server, contextlib.ExitStack() as opened:
        monkeypatch.setattr(users_module, "_hash", counted)
        clients = [opened.enter_context(dial(server.url, login=False)) for _ in range(12)]
        for number, client in enumerate(clients):
            password = "right" if number == 9 else f"guess {number}"
            client.send("rpc", "auth", {"username": "admin", "password": password})
        for client in clients:
            reply = client.receive()
            assert reply is not None
            assert reply["args"]["code"] == "401"
    assert len(hashed) == 5


def test_empty_passwords_let_nobody_in_and_block_nobody() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url, login=False) as client:
        for user in ("admin", "nobody") * 5:
            empty = {"username": user, "password": ""}
            assert client.request("rpc", "auth", empty)["args"]["code"] == "401"
        client.login()


@pytest.mark.parametrize("in_file", [False, True])
def test_there_is_no_user_behind_the_name_of_nobody(tmp_path: Path, in_file: bool) -> None:
    """Unknown users are compared with a stand-in, whose password opens nothing."""
    save_user(tmp_path / "users", "admin", "secret")
    users = tmp_path / "users" if in_file else USERS
    with sa.serve(users=users, sources=[]) as server, dial(server.url, login=False) as client:
        for name in ("nobody", "unknown"):
            reply = client.request("rpc", "auth", {"username": name, "password": "nobody"})
            assert reply["args"]["code"] == "401"


def test_a_challenge_is_good_for_a_while_and_one_login() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    limits = Limits(challenge_life=0.3)
    with sa.serve(users=USERS, sources=[], limits=limits) as server, dial(server.url) as client:
        register = {"action": "register_ssl_cert", "pub_key": pem}
        assert client.request("rpc", "settings", register)["name"] == "response"
        assert client.request("rpc", "settings", register | {"pub_key": "AAAA"})["args"]["code"] == "400"

        def prove(word: str) -> str:
            return str(client.request("rpc", "auth_ssl", {"encrypted_string": sign(private, word)})["name"])

        first = client.request("rpc", "auth_ssl", "")["args"]["test_string"]
        assert prove(first) == "response"
        assert prove(first) == "error", "used"
        late = client.request("rpc", "auth_ssl", "")["args"]["test_string"]
        assert client.receive(0.4) is None
        assert prove(late) == "error", "too late"
        assert prove(client.request("rpc", "auth_ssl", "")["args"]["test_string"]) == "response"
        revoke = {"action": "revoke_ssl_cert", "pub_key": pem, "user": "admin"}
        assert client.request("rpc", "settings", revoke)["name"] == "response"
        assert client.request("rpc", "settings", {"action": "list_ssl_certs"})["args"] == {}
        assert prove(client.request("rpc", "auth_ssl", "")["args"]["test_string"]) == "error", "revoked"


def test_outdated_tokens_block_nobody() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url, login=False) as client:
        for _ in range(10):
            outdated = {"token": "A1" * 20}
            assert client.request("rpc", "auth_token", outdated)["args"]["code"] == "401"
        client.login()


def test_a_broken_user_file_leaves_the_users_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users"
    save_user(path, "admin", "secret")
    with sa.serve(users=path, sources=[]) as server, dial(server.url) as client:
        path.write_text("rubbish\n")
        for _ in range(3):
            assert client.request("rpc", "query", {})["name"] == "response"
        path.unlink()
        assert client.request("rpc", "query", {})["name"] == "response"
    assert len([record for record in caplog.records if "those of before" in record.message]) == 2


def test_a_block_ends_and_a_success_or_quiet_starts_the_count_again() -> None:
    now = [0.0]
    failures = Failures(L(), lambda: now[0])
    assert [failures.failed("a") for _ in range(5)] == [False] * 4 + [True]
    assert failures.blocked("a") and not failures.blocked("b")
    now[0] = 3599
    assert failures.blocked("a")
    now[0] = 3600
    assert not failures.blocked("a")
    assert not any(failures.failed("a") for _ in range(4))
    failures.succeeded("a")
    assert not any(failures.failed("a") for _ in range(4))
    now[0] += 601
    assert not any(failures.failed("a") for _ in range(4))


def test_tokens_live_on_with_use() -> None:
    now = [0.0]
    tokens = Tokens(900, lambda: now[0])
    token = tokens.issue("admin", "wheel")
    for _ in range(5):
        now[0] += 899
        assert tokens.use(token) is not None
    now[0] += 901
    assert tokens.use(token) is None


def test_who_says_nothing_is_closed() -> None:
    with (
        sa.serve(users=USERS, sources=[], limits=Limits(login_timeout=0.3)) as server,
        dial(server.url, login=False) as stranger,
        dial(server.url) as inside,
    ):
        assert stranger.wait_closed() == (1000, "")
        assert inside.request("rpc", "query", {})["name"] == "response"


def test_secrets_are_in_no_repr_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with sa.serve(sources=[]) as server:
        assert server.credentials is not None
        user, password = server.credentials
        with dial(server.url, login=False) as client:
            client.request("rpc", "auth", {"username": user, "password": "an-almost-right-one"})
            token = client.login(user, password)
            client.request("rpc", "query", {"token": token})
        shown = (
            repr(server) + server._repr_html_() + repr(server._server) + repr(server.__dict__) + caplog.text
        )
    for secret in (password, token, "an-almost-right-one"):
        assert secret not in shown


def test_a_made_up_password_is_for_loopback_only() -> None:
    with pytest.raises(InputError, match="users are needed"):
        sa.serve("0.0.0.0", sources=[])
    with pytest.raises(InputError, match="TLS is needed"):
        sa.serve("0.0.0.0", sources=[], users=USERS, tls=False)


# --- the user file ------------------------------------------------------------------------------------------


def test_a_user_file_holds_hashes_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "users"
    save_user(path, "admin", "secret")
    save_user(path, "eve", "look", "operator")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "secret" not in path.read_text()
    assert path.read_text().splitlines()[1].startswith("eve:operator:scrypt:16384,8,5:")
    with sa.serve(users=path, sources=[]) as server:
        assert server.credentials is None
        with dial(server.url) as client:
            assert client.request("rpc", "query", {})["name"] == "response"
            # A change counts at once, also for who is inside.
            save_user(path, "admin", "secret", "operator")
            assert set(client.request("rpc", "query", {})["args"].values()) == {"read"}
            remove_user(path, "admin")
            assert client.request("rpc", "query", {})["args"]["code"] == "401"
        save_user(path, "late", "comer")
        with dial(server.url, login=False) as client:
            client.login("late", "comer")
        remove_user(path, "late")
        with dial(server.url, login=False) as client:
            reply = client.request("rpc", "auth", {"username": "late", "password": "comer"})
            assert reply["args"]["code"] == "401"


def test_the_same_password_hashes_differently(tmp_path: Path) -> None:
    path = tmp_path / "users"
    save_user(path, "a", "same")
    save_user(path, "b", "same")
    first, second = (line.split(":")[-1] for line in path.read_text().splitlines())
    assert first != second


@pytest.mark.parametrize(
    "line", ["admin", "admin:wheel:md5:1,1,1:AA==:AA==", "admin:root:scrypt:1,1,1:AA==:AA==", "a:b:c:d:e:f"]
)
def test_a_broken_user_file_names_the_line_and_not_its_content(tmp_path: Path, line: str) -> None:
    path = tmp_path / "users"
    path.write_text(f"# users\n{line}\n")
    with pytest.raises(InputError, match="line 2") as error:
        Users(path)
    assert line not in str(error.value)


def test_names_passwords_and_roles_are_checked(tmp_path: Path) -> None:
    for name, password, role in (
        ("a:b", "x", "wheel"),
        ("", "x", "wheel"),
        ("a", "", "wheel"),
        ("a", "x", "god"),
    ):
        with pytest.raises(InputError):
            save_user(tmp_path / "users", name, password, role)
    assert not (tmp_path / "users").exists()
    with pytest.raises(InputError, match="no user 'a'"):
        remove_user(tmp_path / "users", "a")
    with pytest.raises(InputError, match="sysadm-nb user add"):
        Users(tmp_path / "users")
