"""Programs that run beside this one: how Python is started, and ending one with all that it started. Needs no torch.

What is to be ended must have been started with ``start_new_session=True``, which makes it the head of a process group.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

PYTHON = (sys.executable, "-X", "utf8")  # what it prints is UTF-8, as on Linux, so on Windows
KILLED = -9  # exit code of a program that SIGKILL ended, as the kernel does for want of memory


def interrupt(process: "subprocess.Popen[Any]") -> None:
    """Ask them to end, as Ctrl-C does. On Windows, where one program cannot ask another, they are ended."""
    if sys.platform == "win32":
        kill(process)
        return
    with suppress(ProcessLookupError):  # it has just ended by itself
        os.killpg(process.pid, signal.SIGINT)


def kill(process: "subprocess.Popen[Any]") -> None:
    """End them at once."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
