"""The program ``sysadm-nb``: what servers and services need without a notebook."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sysadm_nb.errors import SysadmError

# Each room brings its own commands; it is imported when the program is, not when the library is.
_ROOMS = ("server", "client", "recording", "alerts")


def _add_lab(subparsers: Any) -> None:
    lab = subparsers.add_parser(
        "lab",
        help="JupyterLab with the notebooks",
        description="Starts JupyterLab in a folder (by default the notebooks beside this one, or here).",
    )
    lab.add_argument("folder", nargs="?", type=Path, help="folder to open")
    lab.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to JupyterLab")
    lab.set_defaults(run=_run_lab)


def _run_lab(options: argparse.Namespace) -> int:
    try:
        importlib.import_module("jupyterlab")
    except ImportError:
        print('JupyterLab is not installed: pip install "sysadm-nb[lab]"', file=sys.stderr)
        return 1
    here = Path("notebooks")
    folder = options.folder or (here if here.is_dir() else Path())
    if not folder.is_dir():
        print(f"There is no folder {folder}: name the one with your notebooks.", file=sys.stderr)
        return 1
    arguments = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    first = folder / "01_explore_events.ipynb"
    if first.exists():
        arguments.append(f"--LabApp.default_url=/lab/tree/{first.name}")
    if getattr(os, "geteuid", lambda: 1)() == 0:
        arguments.append("--allow-root")
    os.execv(sys.executable, [*arguments, *options.arguments])  # noqa: S606 - becomes the program it starts


def make_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(prog="sysadm-nb", description="Watch SysAdm storage servers.")
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in _ROOMS:
        importlib.import_module(f"sysadm_nb.{room}._cli").add_commands(subparsers)
    _add_lab(subparsers)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        return f"sysadm-nb {version('sysadm-nb')}"
    return "sysadm-nb (not installed)"


def _as_json_does(error: UnicodeError) -> tuple[str, int]:
    r"""``\u00fc`` for what cannot be encoded: so the frames of ``connect --json`` stay JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns
    -------
    int
        0 when all went well, 1 after an error (which is told in a sentence), 130 after Ctrl-C.
    """
    options = make_parser().parse_args(arguments)
    # A name that the terminal's encoding lacks must not end a program that is to run for weeks.
    codecs.register_error("sysadm_nb", _as_json_does)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="sysadm_nb")
    try:
        return int(options.run(options) or 0)
    except SysadmError as error:
        print(f"sysadm-nb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - what is left to print has no reader
        return 0
    except OSError as error:
        if error.filename is None:  # not about a file that was named here: a bug of ours
            raise
        print(f"sysadm-nb: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
