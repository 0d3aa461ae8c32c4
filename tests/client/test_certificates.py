"""Trust on first use: asked before a password is sent, kept, and compared ever after."""

from __future__ import annotations

import asyncio
import stat
import warnings

import pytest

from sysadm_nb.client import InsecureWarning, certificates, open_connection, parse_address
from sysadm_nb.client.fleet import Fleet
from sysadm_nb.client.login import Login
from sysadm_nb.errors import CertificateChanged, CertificateUnknown, InputError
from sysadm_nb.tables import Tables
from tests.client.peers import self_signed
from tests.client.scripted import scripted
from tests.faults import FaultProxy

LOGIN = {"user": "root", "password": "secret"}


async def attempt(url: str, **options: object) -> None:
    async with open_connection(url, timeout=5, **LOGIN, **options):  # type: ignore[arg-type]
        pass


def test_a_new_certificate_is_refused_before_the_password_and_named(tmp_path) -> None:
    async def main() -> None:
        tls, fingerprint, _ = self_signed(tmp_path)
        async with scripted(ssl=tls) as script:
            with pytest.raises(CertificateUnknown, match=f'fingerprint="{fingerprint}"') as caught:
                await attempt(script.url)
            assert caught.value.fingerprint == fingerprint
            assert script.requests == []

    asyncio.run(main())


@pytest.mark.parametrize("form", ["{}", "SHA256:{}", "plain"])
def test_a_fingerprint_that_is_given_is_kept(tmp_path, own_configuration, form: str) -> None:
    async def main() -> None:
        tls, fingerprint, _ = self_signed(tmp_path)
        async with scripted(ssl=tls) as script:
            given = fingerprint.replace(":", "").lower() if form == "plain" else form.format(fingerprint)
            await attempt(script.url, fingerprint=given)
            await attempt(script.url)  # from now on it is trusted
            assert certificates.pinned(parse_address(script.url)) == fingerprint
            (file,) = (own_configuration / "sysadm_nb" / "servers").iterdir()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    asyncio.run(main())


def test_a_fingerprint_that_is_given_is_enough_where_none_can_be_kept(tmp_path, monkeypatch, caplog) -> None:
    """As for a service whose home cannot be written; many servers, as record and watch have."""
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no folder"))

    async def main() -> None:
        tls, fingerprint, _ = self_signed(tmp_path)
        async with scripted(ssl=tls) as script:
            with pytest.raises(CertificateUnknown):
                await attempt(script.url)
            await attempt(script.url, fingerprint=fingerprint)
            fleet = Fleet(Tables())
            server = (parse_address(script.url), Login(**LOGIN), {"name": "nas", "fingerprint": fingerprint})
            await fleet.add_many([server], 5)
            assert [session.state for session in fleet.sessions.values()] == ["connected"]
            await fleet.close()

    asyncio.run(main())
    assert "cannot be kept in" in caplog.text


def test_a_changed_certificate_is_refused_with_both_fingerprints(tmp_path) -> None:
    async def main() -> None:
        old, first, _ = self_signed(tmp_path, "old")
        new, second, _ = self_signed(tmp_path, "new")
        async with scripted() as script, FaultProxy(script.port, tls=old) as proxy:
            url = f"wss://127.0.0.1:{proxy.port}"
            await attempt(url, fingerprint=first)
            before = len(script.requests)
            await proxy.swap_certificate(new)
            with pytest.raises(CertificateChanged, match=f'{first}.*{second}.*fingerprint="{second}"'):
                await attempt(url)
            assert len(script.requests) == before  # not even identify was asked
            await attempt(url, fingerprint=second)  # the way to accept it that the error names
            await attempt(url)
            with pytest.raises(CertificateChanged):
                await attempt(url, fingerprint=first)

    asyncio.run(main())


def test_forgetting_asks_again(tmp_path) -> None:
    async def main() -> None:
        tls, fingerprint, _ = self_signed(tmp_path)
        async with scripted(ssl=tls) as script:
            await attempt(script.url, fingerprint=fingerprint)
            certificates.forget(parse_address(script.url))
            certificates.forget(parse_address(script.url))
            with pytest.raises(CertificateUnknown):
                await attempt(script.url)

    asyncio.run(main())


def test_a_ca_file_instead(tmp_path) -> None:
    async def main() -> None:
        tls, _, pem = self_signed(tmp_path, "mine")
        _, _, other = self_signed(tmp_path, "other")
        async with scripted(ssl=tls) as script:
            await attempt(script.url, verify=pem)
            with pytest.raises(CertificateUnknown, match=r'not signed by .*verify="pin"'):
                await attempt(script.url, verify=str(other))
            with pytest.raises(CertificateUnknown, match="not signed by a trusted authority"):
                await attempt(script.url, verify=True)
            assert certificates.pinned(parse_address(script.url)) is None

    asyncio.run(main())


def test_verify_false_says_on_every_connect_that_it_is_insecure() -> None:
    address = parse_address("wss://nas.example")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            certificates.warn_insecure(address, False)
    assert [warning.category for warning in caught] == [InsecureWarning] * 3
    assert "nas.example:12150 is insecure" in str(caught[0].message)


def test_verify_false_connects(tmp_path) -> None:
    async def main() -> None:
        tls, _, _ = self_signed(tmp_path)
        async with scripted(ssl=tls) as script:
            with pytest.warns(InsecureWarning, match="not checked"):
                await attempt(script.url, verify=False)

    asyncio.run(main())


@pytest.mark.parametrize("verify", ["no-such-file.pem", None, 3])
def test_what_verify_can_be(verify) -> None:
    with pytest.raises(InputError, match=r"verify="):
        asyncio.run(attempt("wss://127.0.0.1:9", verify=verify))


def test_a_fingerprint_that_is_none() -> None:
    with pytest.raises(InputError, match="64 hex digits"):
        certificates.check(parse_address("nas"), b"certificate", "pin", "AB:CD")


def test_a_damaged_pin_is_not_taken_for_none(own_configuration) -> None:
    address = parse_address("wss://nas")
    certificates.trust(address, "00" * 32)
    (file,) = (own_configuration / "sysadm_nb" / "servers").iterdir()
    file.write_text("not a fingerprint")
    with pytest.raises(CertificateChanged, match=r"damaged.*Delete it"):
        certificates.pinned(address)


@pytest.mark.parametrize(("answer", "trusted"), [("y", True), ("YES ", True), ("", False), ("n", False)])
def test_asking(monkeypatch, answer: str, trusted: bool) -> None:
    asked = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or answer)
    address = parse_address("wss://nas")
    fingerprint = ":".join(["AB"] * 32)
    assert certificates.ask_to_trust(address, fingerprint) is trusted
    assert fingerprint in asked[0]
    assert certificates.pinned(address) == (fingerprint if trusted else None)
