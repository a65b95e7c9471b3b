"""Runs a server so that what ends this process ends all that the server has started.

`kedro viz run`, `mlflow ui` and their like start processes of their own and do not pass signals on
to them: `python -m wine_quality.system.foreground COMMAND` does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

STOP_SECONDS = 10.0
"""Seconds that the processes have to end in order, before they are killed."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(command: Sequence[str]) -> int:
    """Run a command in a process group of its own; its exit status, as a shell gives it."""
    received: list[int] = []
    group: int | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if group is not None:
            _send(group, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    try:
        process = subprocess.Popen(command, process_group=0)  # noqa: S603 - a person's own command
    except OSError as error:
        print(f"Error: {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127
    group = process.pid
    # what came before there was a group to pass it on to
    for early in received:
        _send(group, early)
    status = process.wait()
    _end(group)
    return status if status >= 0 else 128 - status


def _end(group: int) -> None:
    """End what the command left behind."""
    deadline = time.monotonic() + STOP_SECONDS
    _send(group, signal.SIGTERM)
    while _send(group, 0):
        if time.monotonic() > deadline:
            _send(group, signal.SIGKILL)
            return
        time.sleep(0.05)


def _send(group: int, number: int) -> bool:
    """Send a signal to a group; whether anybody is in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
