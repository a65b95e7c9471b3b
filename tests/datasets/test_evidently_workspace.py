import json

import pytest
from kedro.io import DatasetError

from wine_quality.datasets.evidently_workspace import EvidentlyWorkspaceDataset

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:::evidently")]


def test_reports_gather_by_their_titles(tmp_path):
    dataset = EvidentlyWorkspaceDataset(folder=str(tmp_path / "workspace"), project="wines")
    assert not dataset.exists()
    assert dataset.load() == {}
    first, newer, second = (
        json.dumps({"name": name, "tags": [tag]})
        for name, tag in (("Drift: a", "old"), ("Drift: a", "new"), ("Drift: b", "new"))
    )
    dataset.save({"drift": first})
    dataset.save({"drift": second, "a/drift": newer})
    assert dataset.exists()
    assert dataset.load() == {"Drift: a": newer, "Drift: b": second}


def test_what_is_no_report_is_said(tmp_path):
    dataset = EvidentlyWorkspaceDataset(folder=str(tmp_path), project="wines")
    with pytest.raises(DatasetError, match="no report of it"):
        dataset.save({"drift": "<html>"})
