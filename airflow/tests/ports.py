"""Free ports of the loopback interface, and waiting until somebody listens."""

from __future__ import annotations

import socket
import subprocess
import time

START_SECONDS = 90.0


def free() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when the port answers; raises when the process has ended or time is over."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r}: ended with {process.returncode} before it listened")
        with socket.socket() as caller:
            caller.settimeout(1)
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r}: did not listen on port {port} in {START_SECONDS:.0f} s")
