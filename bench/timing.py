"""Times one process and all that it starts: seconds of the wall, processor seconds, resident memory."""

import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

SAMPLES_PER_SECOND = 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Run:
    """One process in a session of its own, watched until it ends."""

    def __init__(self, command, folder, texts):
        self.texts = texts
        self.peak_bytes = 0
        self.cpu_by_process = {}
        self.begin = time.perf_counter()
        given = texts.stdout if texts else subprocess.DEVNULL
        pipe = subprocess.PIPE
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=given, stdout=pipe, stderr=self.errors, start_new_session=True
        )

    def finish(self, name):
        watcher = threading.Thread(target=self.watch, daemon=True)
        watcher.start()
        output = self.process.stdout.read()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.seconds = time.perf_counter() - self.begin
        self.process.returncode = os.waitstatus_to_exitcode(status)
        watcher.join()
        # Linux counts kilobytes; a process that lived less than a sample is seen here only.
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * 1024)
        # The usage lacks processes that another one than ours waited for; samples lack the end of each process.
        self.cpu_seconds = max(usage.ru_utime + usage.ru_stime, sum(self.cpu_by_process.values()))
        if self.process.returncode != 0:
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").splitlines()[-3:]
            raise SystemExit(f"{name}: exit {self.process.returncode}: " + " | ".join(last))
        if self.texts:
            self.texts.wait()
        return output

    def watch(self):
        while self.process.returncode is None:
            seen = session_processes(self.process.pid)
            self.peak_bytes = max(self.peak_bytes, sum(one[0] for one in seen.values()))
            self.cpu_by_process.update({number: one[1] for number, one in seen.items()})
            time.sleep(1 / SAMPLES_PER_SECOND)


def session_processes(leader):
    """Resident bytes and CPU seconds of each process of a session. Pages that two of them share are counted twice."""
    seen = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                # The name of the program, in brackets, may hold spaces; state is the first field behind it.
                fields = Path(entry.path, "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                ticks = int(fields[11]) + int(fields[12])
                seen[entry.name] = (int(fields[21]) * PAGE_BYTES, ticks / TICKS_PER_SECOND)
    return seen
