"""Logging in by key: with our own server over TLS, and with the words of a real one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import sysadm_nb as sa
from sysadm_nb.client import keys
from sysadm_nb.client.opening import open_connection
from sysadm_nb.errors import InputError, LoginRefused
from sysadm_nb.server.core import EventServer

CAPTURE = Path(__file__).parents[1] / "data" / "captures" / "01d_auth_ssl.jsonl"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's configuration folder of its own: pins and keys of a test stay in it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@contextlib.asynccontextmanager
async def server(folder):
    """An event server with TLS, whose administrator logs in by password as well."""
    running = EventServer(tls=True, users={"admin": "secret"}, folder=folder / "server")
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


class AsyncMonitor:
    """As much of a monitor as register_key needs, on a loop that is running already."""

    def __init__(self, connection):
        self.connection = connection
        self.asked = []

    def request(self, namespace, name, args, *, server=None, timeout=60.0):
        self.asked.append((namespace, name, args))


def test_the_proof_is_what_a_real_server_decrypts(key):
    # in the capture 01d_auth_ssl the real server took such a proof of the word WPgeXQkVkeas9ULr59Xm
    proof = base64.b64decode(keys.prove(key, "WPgeXQkVkeas9ULr59Xm"))
    numbers = key.public_key().public_numbers()
    block = pow(int.from_bytes(proof, "big"), numbers.e, numbers.n).to_bytes(256, "big")
    assert block == b"\x00\x01" + b"\xff" * (256 - 3 - 20) + b"\x00WPgeXQkVkeas9ULr59Xm"


@pytest.mark.parametrize(
    "word",
    [None, 7, "", "short", "x" * 500, "0!0\r\x06\t`\x86H\x01e\x03\x04\x02\x01\x05\x00\x04 ", "wörd-wörd"],
)
def test_nothing_but_a_plain_word_is_signed(key, word):
    with pytest.raises(LoginRefused, match="nothing was signed"):
        keys.prove(key, word)


def test_checksum_is_that_of_a_real_server_and_bridge():
    # what 01d_auth_ssl lists as registered, and what the server there and the bridge of 09a call it
    frames = [json.loads(line)["frame"] for line in CAPTURE.read_text().splitlines()]
    (listed,) = (json.loads(frame)["args"] for frame in frames if "Nickname" in frame)
    (text,) = listed["root"]
    public = serialization.load_pem_public_key(base64.b64decode(text))
    key = SimpleNamespace(public_key=lambda: public)
    assert keys.public_text(key) == text
    assert keys.checksum(key) == "kUbK2l3Zf2DIWW4T/gWTsQ=="


def test_a_made_key_is_private(home):
    path = home / "deep" / "login.pem"
    made = keys.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.key_size >= 2048
    assert keys.load(path).private_numbers() == made.private_numbers()
    assert base64.b64decode(keys.public_text(made)) == path.with_suffix(".pub").read_bytes()
    with pytest.raises(FileExistsError):
        keys.make(path)


def test_keys_that_cannot_be_used_say_why(home, key):
    path = home / "key.pem"
    with pytest.raises(InputError, match=r"no key .*register_key"):
        keys.load(path)
    with pytest.raises(InputError, match=r"no key .*login\.pem"):
        keys.load(True)
    path.write_text("nonsense")
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        keys.load(path)
    path.chmod(0o600)
    with pytest.raises(InputError, match="no private key in PEM form"):
        keys.load(path)
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(key.private_bytes(*formats, serialization.BestAvailableEncryption(b"x")))
    with pytest.raises(InputError, match="needs a passphrase"):
        keys.load(path)
    plain = serialization.NoEncryption()
    path.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*formats, plain))
    with pytest.raises(InputError, match="RSA keys of 2048 bits"):
        keys.load(path)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    path.write_bytes(weak.private_bytes(*formats, plain))
    with pytest.raises(InputError, match="RSA keys of 2048 bits"):
        keys.load(path)


def test_registered_once_it_logs_in_without_a_password(home):
    async def scenario():
        async with server(home) as running:
            trust = {"fingerprint": running.fingerprint}
            async with open_connection(running.url, user="admin", password="secret", **trust) as connection:
                monitor = AsyncMonitor(connection)
                path = keys.register_key(monitor, nickname="notebook")
                await connection.request(*monitor.asked[0])
                listed = await connection.request("rpc", "settings", {"action": "list_ssl_certs"})
            async with open_connection(running.url, user="admin", key=True) as connection:
                rights = await connection.request("rpc", "query")
                user = connection.user
            return path, listed, rights, user

    path, listed, rights, user = run(scenario())
    assert path == keys.default_path()
    assert list(listed["admin"]) == [keys.public_text(keys.load(path))]
    assert "Nickname: notebook" in listed["admin"][keys.public_text(keys.load(path))]
    assert rights["rpc/settings"] == "read/write"
    assert user == "admin"


def test_a_key_that_the_server_does_not_know(home, key):
    async def scenario():
        async with (
            server(home) as running,
            open_connection(running.url, user="admin", key=key, fingerprint=running.fingerprint),
        ):
            pass

    with pytest.raises(LoginRefused, match=r"does not take this key \(401\): register it there"):
        run(scenario())


@pytest.mark.filterwarnings("ignore::sysadm_nb.client.certificates.InsecureWarning")
@pytest.mark.parametrize("tls", [True, False])
def test_no_key_for_a_server_that_nobody_checked(home, key, tls):
    """Neither over plain ws, nor where verify=False: the answer to its word would be good elsewhere."""

    async def scenario():
        running = EventServer(tls=tls, users={"admin": "secret"}, folder=home / "server")
        await running.start()
        try:
            async with open_connection(running.url, user="admin", key=key, verify=False):
                pass
        finally:
            await running.stop()

    with pytest.raises(LoginRefused, match="A key answers only to a server whose certificate was checked"):
        run(scenario())


def test_the_public_face():
    assert sa.register_key is keys.register_key


def test_a_bridge_that_asks_is_told_the_keys_checksum(key):
    class Fake:
        name, certified = "bridge", True

        def __init__(self):
            self.answers = {}

        async def request(self, namespace, name, args, *, timeout):
            return {"test_string": "WPgeXQkVkeas9ULr59Xm"} if args == "" else ["token", 0]

    fake = Fake()
    assert run(keys.login(fake, key, timeout=1)) == ["token", 0]
    assert json.loads(json.dumps(fake.answers["rpc/settings"]({"action": "list_ssl_checksums"}))) == {
        "md5_keys": [keys.checksum(key)]
    }
