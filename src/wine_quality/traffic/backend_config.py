"""A backend's settings in a file of their own."""

from pathlib import Path
from typing import Any

import yaml

from wine_quality.errors import WineQualityError


def read_config_file(path: str) -> dict[str, Any]:
    """Read a backend's settings from a JSON or YAML file.

    Args:
        path: The file, seen from the working directory.

    Returns:
        The settings by name.

    Raises:
        WineQualityError: If the file cannot be read, or holds anything but settings by name.
    """
    try:
        # every JSON document is a YAML document, too
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise WineQualityError(
            f"The backend's config_file {path} cannot be read ({error.strerror}): check the path."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WineQualityError(
            f"The backend's config_file {path} is neither JSON nor YAML ({_where(error)}): fix it."
        ) from error
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise WineQualityError(
            f"The backend's config_file {path} holds no settings by name: write it like "
            '{"url": "http://127.0.0.1:8000"}.'
        )
    return config


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else type(error).__name__
