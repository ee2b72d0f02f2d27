"""Starts Python in other processes, ends one together with all that it started, tells why one failed. Needs no torch.

A process that ``interrupt`` or ``kill`` is to end must have been started with ``start_new_session=True``, which makes
it the leader of a process group.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

PYTHON = (sys.executable, "-X", "utf8")  # UTF-8 output on Windows too
KILLED = -9  # return code of a process that SIGKILL ended, which the kernel sends when memory runs out


def interrupt(process: "subprocess.Popen[Any]") -> None:
    """Ask ``process`` and its group to end, as Ctrl-C does. On Windows, which has no such request, kill them."""
    if sys.platform == "win32":
        kill(process)
        return
    with suppress(ProcessLookupError):  # it has already ended by itself
        os.killpg(process.pid, signal.SIGINT)


def kill(process: "subprocess.Popen[Any]") -> None:
    """End ``process`` and all that it started at once."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_words(output: str) -> str:
    """Why a ``dynagest`` command failed: its error message, or else the end of its output; 1000 characters at most."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    _, error, after = f"\n{plain}".rpartition("\nerror:")
    return after.strip()[:1000] if error else plain.strip()[-1000:]
