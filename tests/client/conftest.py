from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_configuration(tmp_path, monkeypatch):
    """Trusted certificates of the tests are not those of whoever runs them; nor are passwords."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SYSADM_NB_PASSWORD", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return tmp_path / "config"
