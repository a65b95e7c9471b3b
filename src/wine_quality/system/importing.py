"""Finds what configuration names by a dotted path."""

from pkgutil import resolve_name
from typing import Any


def load_object(path: str) -> Any:
    """Import the object at a dotted path, `package.module.name`.

    Raises:
        ImportError: There is no such module.
        AttributeError: There is no such name in it.
        ValueError: That is no path.
        Exception: Importing runs the module, which may fail in any way.
    """
    # with the colon a missing module is an ImportError that names it, and no AttributeError
    return resolve_name(":".join(path.rsplit(".", 1)))
