"""A JSON file that need not be there yet."""

import json
from typing import Any

from kedro_datasets.json import JSONDataset

from wine_quality.system.storage import write_whole


class OptionalJSONDataset(JSONDataset):
    """A `JSONDataset` that stands for something else until its file is written.

    Args:
        absent: What loading gives where there is no file.
        settings: The arguments of `JSONDataset`.
    """

    optional = True
    """Nothing has to write this before it can be read."""

    def __init__(self, *, absent: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self._absent = absent

    def load(self) -> Any:
        """Read the file, or give what stands for it."""
        return super().load() if self.exists() else self._absent

    def save(self, data: Any) -> None:
        """Write the file; another run that reads it meanwhile finds the old one or the new one."""
        with write_whole(self._fs, str(self._filepath)) as file:
            file.write(json.dumps(data, **self._save_args).encode("utf-8"))
        self._invalidate_cache()
