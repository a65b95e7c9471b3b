import pytest

from wine_quality.errors import WineQualityError
from wine_quality.modelling.tracking import tracking_store


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "'' is the address of no tracking server or database: write one like https://"),
        ("http//x", "'http//x' is the address of no tracking server or database: write one like"),
        ("file:///srv/mlruns", "'file:///srv/mlruns' is the address of no tracking server or"),
        (
            "mysql://user:secret@host/wines",
            "The tracking database mysql://user:***@host/wines cannot be used (No module named "
            "'MySQLdb'): correct MLFLOW_TRACKING_URI, or name a driver in it that is installed",
        ),
        (
            "postgresql+none://host/wines",
            "The tracking database postgresql+none://host/wines cannot be used (Can't load plugin",
        ),
        (
            "postgresql://host:port/wines",
            "The tracking database with an address that is no URL cannot be used (invalid literal",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_said_before_anything_is_opened(address, said):
    with (
        pytest.raises(WineQualityError) as caught,
        tracking_store(address, "MLFLOW_TRACKING_URI"),
    ):
        pytest.fail("nothing may be opened")
    assert str(caught.value).startswith(said)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


def test_a_folder_may_be_allowed(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with tracking_store((tmp_path / "mlruns").as_uri(), "MLFLOW_TRACKING_URI"):
        pass
