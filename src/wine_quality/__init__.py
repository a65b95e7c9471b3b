"""A wine-quality model through its whole life."""

from importlib.metadata import version

__version__ = version("wine-quality")
