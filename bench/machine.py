"""What a page of results says of the machine and of mellama."""

import subprocess
from pathlib import Path


def processor():
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((one.split(":", 1)[1].strip() for one in lines if one.startswith("model name")), "unknown processor")


def version(mellama):
    output = subprocess.run([mellama, "--version"], capture_output=True, text=True, check=False).stdout
    return (output.split() or ["unknown"])[-1]
