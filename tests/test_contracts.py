import numpy as np
import pandas as pd
import pandera.errors
import pytest

from wine_quality.contracts import LABELLED_WINES, WINE_INPUTS
from wine_quality.wines import MEASUREMENTS, QUALITY, TYPE

PLAIN = {TYPE: "red"} | {m.name: m.plausible[0] for m in MEASUREMENTS}


def wines_of(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([PLAIN | {QUALITY: 5} | changes])


def test_the_contract_coerces_types_and_lets_other_columns_pass():
    wines = pd.DataFrame([{**PLAIN, "fixed_acidity": 7, QUALITY: 5.0, "source": "x.csv"}])
    checked = LABELLED_WINES.validate(wines)
    assert checked["fixed_acidity"].dtype == float
    assert checked[QUALITY].dtype == np.int64
    assert checked["source"].tolist() == ["x.csv"]


def test_a_measurement_may_be_missing():
    assert WINE_INPUTS.validate(wines_of(alcohol=None))["alcohol"].isna().all()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (TYPE, "rosé"),
        (TYPE, None),
        ("pH", 14.1),
        ("alcohol", -0.1),
        (QUALITY, 11),
        (QUALITY, -1),
        (QUALITY, None),
    ],
)
def test_the_contract_names_the_column_that_breaks_it(column, value):
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors), match=column):
        LABELLED_WINES.validate(wines_of(**{column: value}))


@pytest.mark.parametrize("column", LABELLED_WINES.columns)
def test_the_contract_asks_for_every_column(column):
    with pytest.raises(pandera.errors.SchemaError, match=column):
        LABELLED_WINES.validate(wines_of().drop(columns=column))
