"""A folder of raw wine files that says what to do when it holds none."""

from collections.abc import Callable
from typing import Any

from kedro.io import DatasetError
from kedro_datasets.partitions import PartitionedDataset

from wine_quality.errors import WineQualityError


class RawWinesDataset(PartitionedDataset):
    """A `PartitionedDataset` of text files whose absence is explained.

    Args:
        if_missing: What a person has to do where the folder holds no file.
        settings: The arguments of `PartitionedDataset`.
    """

    def __init__(self, *, if_missing: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._if_missing = if_missing

    def load(self) -> dict[str, Callable[[], str]]:
        """Load a function that reads the text, by file name without its ending.

        Raises:
            WineQualityError: The folder does not exist or holds no file.
        """
        try:
            partitions: dict[str, Callable[[], str]] = super().load()
        except DatasetError as error:
            raise WineQualityError(f"No wine file in {self._path}: {self._if_missing}.") from error
        return partitions
