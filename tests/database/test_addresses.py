from pathlib import Path

import pytest

from wine_quality.database.addresses import refuse_database_in_store, sqlite_file
from wine_quality.errors import WineQualityError


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:////srv/mlflow.db", Path("/srv/mlflow.db")),
        ("sqlite:///data/mlflow.db", Path("data/mlflow.db")),
        ("postgresql://host/mlflow", None),
        ("https://mlflow.example.org", None),
    ],
)
def test_the_file_of_a_database(address, file):
    assert sqlite_file(address) == file


@pytest.mark.parametrize("url", ["sqlite:///s3://wines/log.db", "sqlite+pysqlite:///s3://w/x.db"])
def test_a_database_in_a_store_is_refused(url):
    with pytest.raises(WineQualityError, match="SQLite needs a disk") as caught:
        refuse_database_in_store(url)
    assert str(caught.value).startswith(url)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/wines.db",
        "sqlite://",
        "postgresql://a:b@host/wines",
        "http://host",
        "s3://x",
    ],
)
def test_other_addresses_pass(url):
    refuse_database_in_store(url)
