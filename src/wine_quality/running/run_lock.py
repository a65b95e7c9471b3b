"""One run at a time writes a pipeline's files in a folder; another waits for it."""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from wine_quality.database.locks import Confirm, LockHeldError, exclusive, exclusive_file
from wine_quality.system.storage import is_address

logger = logging.getLogger(__name__)

PATIENCE_S = 24 * 3600.0
"""Seconds to wait for another run, which may be a long one."""
FIRST_LOOK_S = 0.1
"""Seconds to wait before it is said that another run is waited for."""


@contextmanager
def run_lock(
    root: str, database: str, pipelines: Collection[str], everywhere: Collection[str] = ()
) -> Iterator[None]:
    """Keep other runs from writing the files of these pipelines meanwhile.

    A run reads what it wrote, so two of them in one folder would mix: one would judge the other's
    predictions. The lock is a file in the folder. A folder in an object store cannot be locked:
    there the lock is in a database, which all who write to that folder have to share.

    Args:
        root: The folder that the run writes to, a path or an address.
        database: Address of the database that has the lock where `root` is an address.
        pipelines: Names of the pipelines.
        everywhere: What only one run at a time may do of all that share `database`, whichever
            folder they write to.

    Raises:
        WineQualityError: Another run keeps the lock for `PATIENCE_S` seconds, or the lock cannot be
            taken.
    """
    with ExitStack() as held:
        # always in the same order, so that no two runs wait for each other
        for pipeline in sorted(pipelines):
            _enter(held, partial(_lock, root, database, pipeline), f"files of {pipeline} in {root}")
        for what in sorted(everywhere):
            lock = partial(exclusive, database, what, f"running {what}")
            _enter(held, lock, f"outcome of {what}")
        yield


def _enter(
    held: ExitStack, lock: Callable[[float], AbstractContextManager[Confirm]], what: str
) -> None:
    """Take a lock; say it where another run has to be waited for."""
    try:
        held.enter_context(lock(FIRST_LOOK_S))
    except LockHeldError:
        logger.warning("Another run writes the %s: waiting until it ends", what)
        held.enter_context(lock(PATIENCE_S))


def _lock(
    root: str, database: str, pipeline: str, patience_s: float
) -> AbstractContextManager[Confirm]:
    doing = f"running {pipeline} in {root}"
    if is_address(root):
        place = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in root)
        return exclusive(database, f"{pipeline}-{place}", doing, patience_s)
    return exclusive_file(Path(root) / f".{pipeline}-lock", doing, patience_s)
