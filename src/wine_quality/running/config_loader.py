"""Kedro's configuration loader, which reads each kind of configuration once."""

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader

from wine_quality.errors import WineQualityError


class ConfigLoader(OmegaConfigLoader):
    """Keeps what it has read: in one session Kedro, its plugins and our hooks ask a dozen times.

    What it gives is the caller's own; to change it changes nothing for others.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Give the configuration of a kind, such as `parameters`, with all environments merged.

        Raises:
            KeyError: There is no such kind.
            MissingConfigException: No file holds it.
        """
        if key not in self:
            self[key] = super().__getitem__(key)
        found: dict[str, Any] = deepcopy(super().__getitem__(key))
        return found


def read_configuration(
    folder: Path, env: str | None, params: Mapping[str, Any] | None = None
) -> AbstractConfigLoader:
    """Read an environment's configuration without a session, which would open MLflow's database.

    Args:
        folder: The configuration's.
        env: The environment; that of `KEDRO_ENV`, if not given.
        params: What goes before the parameters in the files.

    Raises:
        WineQualityError: There is no such environment.
    """
    from kedro.framework.project import settings

    env = env or os.environ.get("KEDRO_ENV")
    check_environment(folder, env)
    loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(folder), env=env, runtime_params=params, **settings.CONFIG_LOADER_ARGS
    )
    return loader


def check_environment(folder: Path, env: str | None) -> None:
    """Refuse an environment that has no folder; Kedro would go on without its settings.

    Raises:
        WineQualityError: It has none.
    """
    # an archive or an address cannot be looked into here
    if env and folder.is_dir() and not (folder / env).is_dir():
        known = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise WineQualityError(
            f"There is no environment {env!r} in {folder}: choose {', '.join(known)}."
        )
