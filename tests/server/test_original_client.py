"""The original C++ client, by script: its frames in its order, over TLS with the server's own certificate."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

import sysadm_nb as sa
from tests.conformance.replay import sign

WAIT = 15.0
STATE = {"hostname": "nas", "priority": "0 - Information", "zpools": {}}
SNAPSHOT = {
    "class": "snapshot",
    "message": "Mon Nov 23 07:21:12 UTC 2026: New snapshot of tank/home",
    "priority": "1 - Information",
}


def frame(name: str, args: Any, id: str, namespace: str = "rpc") -> str:
    """As Qt writes it: compact, keys sorted."""
    value = {"args": args, "id": id, "name": name, "namespace": namespace}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class OriginalClient:
    """What the original needs of each frame is asserted as it comes."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    def receive(self) -> dict[str, Any]:
        text = self.connection.recv(timeout=WAIT)
        assert isinstance(text, str) and text[0] == "{", "one object a text frame"
        value = json.loads(text)
        if value["namespace"] == "events" and value["name"] != "response":
            assert value["id"] != "sysadm-client-event-auto"
            assert value["name"] in ("dispatcher", "life-preserver", "system-state"), "names with hyphens"
            assert isinstance(value["args"].get("priority", ""), str)
            self.events.append(value)
        return dict(value)

    def reply(self, id: str) -> dict[str, Any]:
        while (value := self.receive())["id"] != id:
            pass
        return value

    def greet(self) -> None:
        self.connection.send(frame("identify", "", "sysadm_client_identify"))
        reply = self.reply("sysadm_client_identify")
        assert reply["name"] == "response" and reply["args"]["type"] in ("server", "bridge")

    def check_login(self, reply: dict[str, Any]) -> None:
        assert isinstance(reply["args"], list) and len(reply["args"]) >= 2
        assert isinstance(reply["args"][0], str) and reply["args"][0]

    def subscribe(self) -> None:
        for name in ("system-state", "dispatcher", "life-preserver"):
            self.connection.send(frame("subscribe", name, "sysadm-client-event-auto", "events"))

    def until(self, *names: str) -> None:
        while {event["name"] for event in self.events} < set(names):
            self.receive()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept over the tests: making the certificate takes a second."""
    return tmp_path_factory.mktemp("server")


def serve(folder: Path) -> sa.Server:
    return sa.serve(tls=True, folder=folder, users={"root": "secret"}, sources=[], allow_run=True)


def dial(server: sa.Server) -> Any:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # it looks at the certificate itself
    return connect(server.url, ssl=tls, origin=Origin("sysadm-client"), compression=None)


def test_it_logs_in_by_password_and_gets_all_three_events(folder: Path) -> None:
    with serve(folder) as server, dial(server) as connection:
        client = OriginalClient(connection)
        server.publish("system-state", STATE)
        client.greet()
        login = {"password": "secret", "username": "root"}
        connection.send(frame("auth", login, "sysadm-client-auth-auto"))
        client.check_login(client.reply("sysadm-client-auth-auto"))
        client.subscribe()
        connection.send(frame("dispatcher", {"action": "run", "job": "echo hello"}, "run"))
        client.until("system-state", "dispatcher")
        server.publish("life-preserver", SNAPSHOT)
        client.until("system-state", "dispatcher", "life-preserver")
        # After 90 s of silence: its ping.
        client.greet()
        connection.send(frame("query", "", "sysadm-client-query"))
        assert client.reply("sysadm-client-query")["args"]["rpc/dispatcher"] == "read/write"
        while not any(event["args"].get("state") == "finished" for event in client.events):
            client.receive()


def test_it_logs_in_by_key(folder: Path) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with serve(folder) as server, dial(server) as connection:
        client = OriginalClient(connection)
        client.greet()
        connection.send(frame("auth", {"password": "secret", "username": "root"}, "a"))
        client.check_login(client.reply("a"))
        register = {
            "action": "register_ssl_cert",
            "email": "",
            "nickname": "desk",
            "pub_key": pem.decode(),
        }
        connection.send(frame("settings", register, "s"))
        assert client.reply("s")["name"] == "response"
    # The keys outlive the server.
    with serve(folder) as server, dial(server) as connection:
        client = OriginalClient(connection)
        client.greet()
        connection.send(frame("auth_ssl", "", "sysadm-client-auth-auto"))
        challenge = client.reply("sysadm-client-auth-auto")["args"]["test_string"]
        proof = {"encrypted_string": sign(private, challenge)}
        connection.send(frame("auth_ssl", proof, "sysadm-client-auth-auto"))
        client.check_login(client.reply("sysadm-client-auth-auto"))
        client.subscribe()
        server.publish("system-state", STATE)
        client.until("system-state")


def test_an_empty_password_from_this_machine_does_not_let_it_in(folder: Path) -> None:
    with serve(folder) as server, dial(server) as connection:
        client = OriginalClient(connection)
        connection.send(frame("auth", {"password": "", "username": "root"}, "sysadm-client-auth-auto"))
        assert client.reply("sysadm-client-auth-auto")["args"]["code"] == "401"


def test_the_certificate_is_one_it_does_not_crash_on(folder: Path) -> None:
    with serve(folder) as server:
        first = server.fingerprint
    certificate = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    assert certificate.issuer == certificate.subject, "self-signed"
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048
    lived = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lived.days > 365
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600
    with serve(folder) as server:
        assert server.fingerprint == first, "made once, at the first start"
        pem = ssl.get_server_certificate(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=WAIT)
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    assert first is not None and first.replace(":", "") == shown


def test_old_tls_is_refused(folder: Path) -> None:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with serve(folder) as server, pytest.raises(ssl.SSLError), connect(server.url, ssl=tls):
        pass
