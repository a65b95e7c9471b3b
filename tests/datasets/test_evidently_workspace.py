import pytest
from kedro.io import DatasetError

from wine_quality.datasets.evidently_workspace import EvidentlyWorkspaceDataset


def test_the_dataset_gives_its_workspace_and_takes_nothing(tmp_path):
    dataset = EvidentlyWorkspaceDataset(
        folder=str(tmp_path / "workspace"), project="wines", pages=str(tmp_path / "pages")
    )
    assert not dataset.exists()
    assert dataset.load().read() == {}
    with pytest.raises(DatasetError, match="read only"):
        dataset.save({})
