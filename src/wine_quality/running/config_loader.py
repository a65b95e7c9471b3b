"""Kedro's configuration loader, which reads each kind of configuration once."""

from copy import deepcopy
from typing import Any

from kedro.config import OmegaConfigLoader


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
