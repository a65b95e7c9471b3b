"""Loads classes named in configuration."""

from importlib import import_module
from typing import Any


def load_class(path: str) -> Any:
    """Import the object at a dotted path.

    Raises:
        ImportError: There is no such module, or no such name in it.
    """
    module, _, name = path.rpartition(".")
    if not module:
        raise ImportError(f"{path!r} is not a class path of the form package.module.Class")
    try:
        return getattr(import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"module {module!r} has no {name!r}") from error
