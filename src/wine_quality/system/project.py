"""Where the project lies, for commands that start in any folder inside it."""

import os
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path

_DIGITS = 8


def project_folder() -> Path:
    """Find the project that the working directory lies in; outside any, the working directory.

    Kedro has the same search, but the service, which must not import Kedro, needs it too.
    """
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if _is_project(folder)), here)


def _is_project(folder: Path) -> bool:
    try:
        with (folder / "pyproject.toml").open("rb") as file:
            return "kedro" in tomllib.load(file).get("tool", {})
    except (OSError, tomllib.TOMLDecodeError):
        return False


def temporary_folder(name: str) -> str:
    """Name a folder for temporary files, one for each checkout and user.

    Args:
        name: How its name begins.
    """
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    digest = sha256(f"{owner} {project_folder()}".encode()).hexdigest()
    return str(Path(tempfile.gettempdir()) / f"{name}-{digest[:_DIGITS]}")
