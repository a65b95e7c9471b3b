"""A JSON file that need not be there yet."""

from typing import Any

from kedro_datasets.json import JSONDataset


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
