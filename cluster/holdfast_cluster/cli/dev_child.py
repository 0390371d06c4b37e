"""Runs a command that ends when its parent does: ``python -m holdfast_cluster.cli.dev_child PARENT_PID COMMAND...``

`holdfast dev` may be killed in a way that lets it tidy up nothing; an app that went on alone would keep its address and
answer nobody. Linux can be asked for a signal at the parent's death, and the request survives `exec`.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)  # it died before the request
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
