"""What a process and all that it started take of the machine (Linux)."""

import os
from collections.abc import Iterator
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def resident_mb(process_id: int) -> float:
    """Resident memory, in MB."""
    return sum(
        int(line.split()[1]) / 1024
        for process in _family(process_id)
        for line in _read(process / "status").splitlines()
        if line.startswith("VmRSS")
    )


def cpu_seconds(process_id: int) -> float:
    """Processor time taken so far by those that still run, in seconds."""
    total = 0
    for process in _family(process_id):
        # the name, in brackets, may hold spaces; user and system time stand 12th and 13th behind it
        fields = _read(process / "stat").rpartition(")")[2].split()
        total += sum(map(int, fields[11:13]))
    return total / _TICKS_A_SECOND


def _family(process_id: int) -> Iterator[Path]:
    waiting = [str(process_id)]
    while waiting:
        process = Path("/proc") / waiting.pop()
        yield process
        for children in process.glob("task/*/children"):
            waiting += _read(children).split()


def _read(path: Path) -> str:
    """Its text; empty if the process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
