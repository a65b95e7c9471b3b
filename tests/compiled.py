"""Keeps compiled code, which hundreds of processes would otherwise compile again, each its own.

Loaded before all other plugins, for pytest rewrites these as well.
"""

import os
import sys

# where the variable is set, pytest does not keep its rewritten tests either
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
