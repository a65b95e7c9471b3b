"""`python -m wine_quality`: `kedro run` for the packaged project, outside of its folder."""

import sys
from typing import Any

from kedro.framework.project import configure_project


def main(*arguments: Any, **options: Any) -> Any:
    """Run the project in the working directory.

    Args:
        arguments: As `kedro run` takes them, in one list; those of the process if none are given.
        options: For the command of Click.

    Returns:
        What the run gave, where it was called from an interactive Python; else the process ends.
    """
    configure_project("wine_quality")
    from wine_quality.cli import run

    options.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return run(*arguments, **options)


if __name__ == "__main__":
    main()
