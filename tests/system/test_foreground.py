import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wine_quality.system import foreground

# starts a process that does not end by itself, and says which
SERVER = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    "open(sys.argv[1], 'w').write(str(child.pid)); "
    "{then}"
)
SLEEP = "import time; time.sleep(300)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('deaf', flush=True); time.sleep(300)"
)


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        # nobody may be there to collect it
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path):
    """Starts a server that has started another; gives its process and the other's id."""
    started = []

    def run(then: str = "child.wait()", child: str = SLEEP):
        pid = tmp_path / "pid"
        code = SERVER.format(child=child, then=then)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "wine_quality.system.foreground",
                sys.executable,
                "-c",
                code,
                pid,
            ]
        )
        started.append(process)
        wait_until(lambda: pid.exists() and pid.read_text())
        return process, int(pid.read_text())

    yield run
    for process in started:
        process.kill()
        process.wait(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_ends_it_ends_what_the_command_started(start, number):
    process, child = start()
    process.send_signal(number)
    assert process.wait(60) != 0
    wait_until(lambda: not is_alive(child))


def test_what_a_command_leaves_behind_is_ended(start):
    process, child = start(then="pass")
    assert process.wait(60) == 0
    wait_until(lambda: not is_alive(child))


def test_what_does_not_end_in_order_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(foreground, "STOP_SECONDS", 0.2)
    pid = tmp_path / "pid"
    code = SERVER.format(child=STUBBORN, then="child.stdout")
    handlers = {number: signal.getsignal(number) for number in foreground._PASSED_ON}
    try:
        assert foreground.main([sys.executable, "-c", code, str(pid)]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    wait_until(lambda: not is_alive(int(pid.read_text())))


def test_the_status_is_the_commands(start):
    process, _ = start(then="sys.exit(7)")
    assert process.wait(60) == 7


def test_a_command_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "wine_quality.system.foreground", "no-such-command"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 127
    assert done.stderr == "Error: no-such-command: No such file or directory\n"
