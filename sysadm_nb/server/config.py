"""The configuration of ``sysadm-nb serve``: a TOML file, with flags over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from sysadm_nb.errors import InputError
from sysadm_nb.server.core import PORT, state_folder
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.source import resolve

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "host": str,
    "port": int,
    "folder": str,
    "users": str,
    "sources": list,
    "source": dict,
    "allow_run": bool,
    "tls": (bool, dict),
    "limits": dict,
    "environment": dict,
    "cwd": str,
    "origins": list,
    "bridge": dict,
}

_SOURCES: Final[dict[str, dict[str, type]]] = {
    "demo": {"seed": int, "speed": float, "history": str},
    "system_state": {"interval": float},
    "life_preserver": {
        "log": str,
        "replication_logs": dict,
        "interval": float,
        "poll": float,
        "state": str,
    },
}


def read(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises
    ------
    InputError
        If it cannot be read, or has a key or a value that means nothing; the message names it.
    """
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from None
    for key, value in found.items():
        wanted = _TYPES.get(key)
        if wanted is None:
            raise InputError(f"{path}: there is no setting {key!r}; there are {', '.join(sorted(_TYPES))}")
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise InputError(f"{path}: {key} cannot be {value!r}")
    return found


def arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `sysadm_nb.serve` for some settings.

    Raises
    ------
    InputError
        If a limit, a source or a part of ``tls`` or ``bridge`` is none.
    """
    folder = Path(settings.get("folder") or state_folder()).expanduser()
    bridge = settings.get("bridge", {})
    _check("bridge", bridge, ("url", "fingerprint"))
    if bridge and "url" not in bridge:
        raise InputError("bridge needs a url, such as 'wss://bridge.example:12149'")
    made: dict[str, Any] = {
        "host": settings.get("host", "127.0.0.1"),
        "port": settings.get("port", PORT),
        "folder": folder,
        "users": Path(settings.get("users") or folder / "users").expanduser(),
        "sources": resolve(settings.get("sources", ["local"]), _source_options(settings.get("source", {}))),
        "allow_run": settings.get("allow_run", False),
        "tls": _tls(settings.get("tls", True)),
        "limits": _limits(settings.get("limits", {})),
        "environment": {name: str(value) for name, value in settings.get("environment", {}).items()},
        "cwd": settings.get("cwd", "/"),
        "origins": settings.get("origins", []),
    }
    if bridge:
        made |= {"bridge": bridge.get("url"), "bridge_fingerprint": bridge.get("fingerprint")}
    return made


def _check(name: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise InputError(f"there is no setting {name}.{key}; there are {', '.join(known)}")


def _tls(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    _check("tls", value, ("certificate", "key"))
    if "certificate" not in value:
        raise InputError("tls needs a certificate, and a key unless it is in the same file")
    certificate = Path(value["certificate"]).expanduser()
    return (certificate, Path(value["key"]).expanduser()) if "key" in value else certificate


def _limits(values: Mapping[str, Any]) -> Limits:
    kinds = {field.name: field.type for field in fields(Limits)}
    _check("limits", values, tuple(kinds))
    for key, value in values.items():
        number = isinstance(value, int) or (isinstance(value, float) and kinds[key] == "float")
        if not number or isinstance(value, bool) or value <= 0:
            raise InputError(f"limits.{key} must be a number above 0, not {value!r}")
    return Limits(**values)


def _source_options(values: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    _check("source", values, tuple(_SOURCES))
    for name, options in values.items():
        if not isinstance(options, dict):
            raise InputError(f"source.{name} must be a table")
        _check(f"source.{name}", options, tuple(_SOURCES[name]))
        for key, value in options.items():
            _check_option(f"source.{name}.{key}", value, _SOURCES[name][key])
    return values


def _check_option(name: str, value: Any, kind: type) -> None:
    if kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise InputError(f"{name} must be a number above 0, not {value!r}")
    elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{name} cannot be {value!r}")
    elif isinstance(value, dict) and not all(isinstance(form, str) for form in value.values()):
        raise InputError(f"{name} needs a format for each log, not {value!r}")
