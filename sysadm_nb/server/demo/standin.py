"""Stands in for zpool, zfs and pkg: hands its arguments to the demo machine and prints what that answers.

Runs as a program of its own, next to the machine's socket; it must not import anything of this library.
"""

import json
import socket
import sys


def main() -> int:
    path = __file__.rpartition("/")[0] + "/machine"
    with socket.socket(socket.AF_UNIX) as machine:
        try:
            machine.connect(path)
        except OSError:
            print("the demo machine has been stopped", file=sys.stderr)
            return 1
        machine.sendall(json.dumps(sys.argv[1:]).encode() + b"\n")
        with machine.makefile("rb") as answers:
            for line in answers:
                stream, text = json.loads(line)
                if stream == "exit":
                    return int(text)
                out = sys.stderr if stream == "err" else sys.stdout
                out.write(text)
                out.flush()
    print("the demo machine stopped before the command was done", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
