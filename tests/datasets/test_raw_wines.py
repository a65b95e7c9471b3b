import pytest
from kedro.io import DatasetError

from wine_quality.cli import explain
from wine_quality.datasets import RawWinesDataset


def dataset(folder):
    return RawWinesDataset(
        path=str(folder),
        filename_suffix=".csv",
        dataset="text.TextDataset",
        if_missing="fetch the files with 'kedro run --pipeline download'",
    )


def test_a_folder_is_loaded_file_by_file(tmp_path):
    (tmp_path / "red.csv").write_text("a;b")
    (tmp_path / "white.csv").write_text("c;d")
    (tmp_path / "notes.txt").write_text("no wines")
    loaders = dataset(tmp_path).load()
    assert {name: load() for name, load in loaders.items()} == {"red": "a;b", "white": "c;d"}


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_where_no_file_is_it_is_said_what_to_do(tmp_path, folder):
    (tmp_path / "notes.txt").write_text("no wines")
    with pytest.raises(DatasetError) as caught:
        dataset(tmp_path / folder).load()
    message = explain(caught.value)
    assert message.startswith(f"No wine file in {tmp_path}")
    assert message.endswith(": fetch the files with 'kedro run --pipeline download'.")


def test_raw_files_are_not_there_until_they_are(tmp_path):
    assert not dataset(tmp_path).exists()
    (tmp_path / "red.csv").write_text("a;b")
    assert dataset(tmp_path).exists()
