"""Has a SQLite tracking database follow its folder when that is moved, copied or restored.

MLflow stores where artifacts lie as absolute places. The database therefore keeps, as a tag of its
experiments, the folder that it lay in when it was used last; where it lies elsewhere now, every
place below that folder is changed to one below the present folder. So a moved folder finds its
artifacts again, and a copy reads and writes its own and never those of the original.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

logger = logging.getLogger(__name__)

FOLDER_TAG = "wine_quality.folder"
"""Tag of every experiment: the folder that the database lay in when it was used last."""
ARTIFACTS = "mlartifacts"
"""Folder of the artifacts beside the database, as conf/base/mlflow.yml has it."""
PATIENCE = 60.0
"""Seconds to wait for another process that writes to the database."""
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""The columns in which MLflow keeps places."""


def follow_folder(database: Path) -> None:
    """Have the places in a tracking database lead to where it lies now.

    Places outside the database's former folder, like those in an object store, stay as they are,
    and so does a database that is reached by another path to the same file.

    Args:
        database: The SQLite file; nothing is done if it is not there.

    Raises:
        sqlite3.Error: It cannot be read, or has to be changed and cannot be.
    """
    database = Path(os.path.abspath(database))  # noqa: PTH100 - links are not followed
    if not database.exists():
        return
    may_write = all(os.access(path, os.W_OK) for path in (database, database.parent))
    address = f"file:{quote(str(database))}?mode={'rw' if may_write else 'ro'}"
    with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as connection:
        connection.isolation_level = None
        if _has(connection, "experiment_tags", "value"):
            _follow(connection, database, may_write)


def _follow(connection: sqlite3.Connection, database: Path, may_write: bool) -> None:
    here = database.parent
    former, is_recorded = _former_folders(connection, here)
    # the same file by another path, for example through a link
    if any(_is_same(folder / database.name, database) for folder in former):
        return
    # a record alone can wait for a process that may write
    if is_recorded or not (former or may_write):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for folder in former:
            changed = sum(
                _replace(connection, table, column, folder, here)
                for table, column in _PLACES
                if _has(connection, table, column)
            )
            logger.info(
                "%s was in %s before: %d places of artifacts in it lead here now",
                database,
                folder,
                changed,
            )
        connection.execute(
            "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) "
            "SELECT ?, ?, experiment_id FROM experiments",
            (FOLDER_TAG, str(here)),
        )


def _former_folders(connection: sqlite3.Connection, here: Path) -> tuple[list[Path], bool]:
    """The folders that the database lay in before, and whether its present one is recorded."""
    rows = connection.execute(
        "SELECT e.artifact_location, t.value FROM experiments e LEFT JOIN experiment_tags t "
        "ON t.experiment_id = e.experiment_id AND t.key = ?",
        (FOLDER_TAG,),
    ).fetchall()
    recorded = {value for _, value in rows if value}
    if recorded:
        folders = sorted(Path(value) for value in recorded if value != str(here))
        return folders, not folders and all(value for _, value in rows)
    return sorted(_guessed_folders((place for place, _ in rows), here)), False


def _guessed_folders(places: Iterable[str | None], here: Path) -> set[Path]:
    """Guess where a database was that has no record yet, from the places of its experiments."""
    artifacts = {_local(place) for place in places if place}
    guessed = {path.parent for path in artifacts if path and path.name == ARTIFACTS} - {here}
    # a database may lie apart from its artifacts on purpose: then they are there, and not here
    apart = not (here / ARTIFACTS).is_dir()
    return {folder for folder in guessed if not (apart and (folder / ARTIFACTS).is_dir())}


def _local(place: str) -> Path | None:
    """The path of a place on this machine; None for any other."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(place)


def _replace(
    connection: sqlite3.Connection, table: str, column: str, folder: Path, here: Path
) -> int:
    """Change the places below one folder to such below another; how many there were."""
    changed = 0
    for former, present in ((str(folder), str(here)), (folder.as_uri(), here.as_uri())):
        done = connection.execute(
            # the names are ours
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (present, len(former) + 1, former, len(former) + 1, f"{former}/"),
        )
        changed += done.rowcount
    return changed


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
