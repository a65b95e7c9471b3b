import itertools
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.contracts import LABELLED_WINES
from wine_quality.errors import WineQualityError
from wine_quality.traffic.figures import (
    FIGURES_FILE,
    cholesky,
    packaged_figures,
    read_figures,
    write_figures,
)
from wine_quality.traffic.fit_figures import fit_figures, rank_correlations, read_uci
from wine_quality.traffic.synthetic import BLOCK_ROWS, draw_wines, iter_wines, write_sample
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    TYPE,
    WINE_TYPES,
    implausible,
)

SAMPLE = Path(__file__).parents[2] / "data" / "01_raw" / "sample"
SEEDS = st.integers(0, 2**63)


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return draw_wines(200_000, 7)


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    data = os.environ.get("WINE_QUALITY_DATA")
    if not data or not (Path(data) / "uci").is_dir():
        pytest.skip("WINE_QUALITY_DATA names no folder with the UCI files in uci/")
    return read_uci(Path(data) / "uci")


# Drawing


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 2 * BLOCK_ROWS + 100), chunks=st.integers(1, 40), seed=SEEDS)
def test_chunks_add_up_to_the_whole(rows, chunks, seed):
    chunk_rows = -(-rows // chunks)
    options = {"duplicates": True, "missing": True}
    parts = list(iter_wines(rows, seed, chunk_rows, **options))
    assert [len(part) for part in parts[:-1]] == [chunk_rows] * (len(parts) - 1)
    assert_frame_equal(pd.concat(parts), draw_wines(rows, seed, **options), check_index_type=True)


def test_an_endless_draw_yields_its_first_chunk_at_once():
    chunks = iter_wines(10**12, 1, 1_000)
    first, second = itertools.islice(chunks, 2)
    assert (len(first), len(second)) == (1_000, 1_000)
    assert second.index[0] == 1_000
    assert not np.array_equal(first[[*MEASUREMENT_NAMES]], second[[*MEASUREMENT_NAMES]])


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 3_000), seed=SEEDS, duplicates=st.booleans(), missing=st.booleans())
def test_every_draw_is_of_labelled_plausible_wines(rows, seed, duplicates, missing):
    wines = draw_wines(rows, seed, duplicates=duplicates, missing=missing)
    assert [*wines] == [*INPUTS, QUALITY]
    assert len(wines) == rows
    assert_frame_equal(LABELLED_WINES.validate(wines), wines)
    assert wines[QUALITY].dtype == np.int64
    assert not implausible(wines).any(axis=None)
    assert (wines["free_sulfur_dioxide"] <= wines["total_sulfur_dioxide"]).all()
    assert missing or not wines.isna().any(axis=None)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_seed_decides(seed):
    assert_frame_equal(draw_wines(50, seed), draw_wines(50, seed))
    assert not draw_wines(50, seed).equals(draw_wines(50, seed + 1))


def test_blocks_differ_from_each_other():
    wines = draw_wines(2 * BLOCK_ROWS, 3, types={"red": 1})
    first, second = wines[:BLOCK_ROWS], wines[BLOCK_ROWS:].reset_index(drop=True)
    assert (first["density"] == second["density"]).mean() < 0.05


@pytest.mark.parametrize(
    ("types", "red"),
    [
        (None, 1599 / 6497),
        ({"red": 1}, 1),
        ({"red": 0, "white": 5}, 0),
        ({"white": 1, "red": 3}, 0.75),
    ],
)
def test_types_come_in_their_shares(types, red):
    wines = draw_wines(20_000, 1, types=types)
    assert (wines[TYPE] == "red").mean() == pytest.approx(red, abs=0.02)


def test_qualities_come_in_the_real_shares(many):
    for kind, figures in packaged_figures().types.items():
        drawn = many.loc[many[TYPE] == kind, QUALITY].value_counts(normalize=True)
        expected = {
            quality: share * of_band
            for share, band in zip(figures.shares, figures.bands, strict=True)
            for quality, of_band in band.quality.items()
        }
        assert set(drawn.index) == set(expected)
        assert drawn.to_dict() == pytest.approx(expected, abs=0.006)


def test_measurements_are_recorded_in_the_real_steps(many):
    steps = {
        name: max(
            max(band.measurements[name].steps)
            for figures in packaged_figures().types.values()
            for band in figures.bands
        )
        for name in MEASUREMENT_NAMES
    }
    assert steps["citric_acid"] == 100
    for name, step in steps.items():
        scaled = many[name] * step
        np.testing.assert_allclose(scaled, scaled.round(), rtol=0, atol=1e-6)


def test_measurements_tell_about_quality(many):
    for kind in WINE_TYPES:
        correlation = rank_correlations(many[many[TYPE] == kind])[-1]
        assert correlation[MEASUREMENT_NAMES.index("alcohol")] > 0.4
        assert correlation[MEASUREMENT_NAMES.index("volatile_acidity")] < -0.15


@pytest.mark.parametrize("kind", WINE_TYPES)
def test_duplicates_come_in_the_real_share(kind):
    figures = packaged_figures().types[kind]
    wines = draw_wines(figures.rows, 5, types={kind: 1}, duplicates=True)
    assert wines.duplicated().mean() == pytest.approx(figures.duplicates, abs=0.001)
    assert draw_wines(figures.rows, 5, types={kind: 1}).duplicated().sum() <= 1


def test_missing_values_come_in_their_shares(many):
    wines = draw_wines(200_000, 7, missing=True)
    expected = packaged_figures().missing
    for name in MEASUREMENT_NAMES:
        share = expected.get(name, 0)
        spread = np.sqrt(share / len(wines))
        assert wines[name].isna().mean() == pytest.approx(share, abs=5 * spread)
    given_values = wines["density"]
    assert_frame_equal(given_values.to_frame(), many["density"].to_frame())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"rows": 0}, "0 wines"),
        ({"seed": -1}, "seed -1"),
        ({"chunk_rows": 0}, "chunks of 0"),
        ({"types": {"rose": 1}}, "rose"),
        ({"types": {"red": -1, "white": 2}}, "-1"),
        ({"types": {"red": 0}}, "all 0"),
        ({"types": {"red": float("nan")}}, "nan"),
    ],
)
def test_nonsense_is_refused_before_the_first_chunk(arguments, named):
    with pytest.raises(WineQualityError, match=named):
        iter_wines(**{"rows": 10, "seed": 1, "chunk_rows": 5, **arguments})


# The embedded sample


def test_the_committed_sample_is_what_the_generator_writes(tmp_path):
    for path in write_sample(tmp_path / "new" / "folder"):
        assert path.read_bytes() == (SAMPLE / path.name).read_bytes(), (
            f"{path.name} differs: after a change of generator or figures run "
            "python -m wine_quality.traffic.synthetic data/01_raw/sample"
        )


@pytest.mark.parametrize(("kind", "rows", "repeats"), [("red", 1599, 240), ("white", 4898, 937)])
def test_the_sample_has_the_form_of_the_uci_files(kind, rows, repeats):
    text = (SAMPLE / f"winequality-{kind}.csv").read_bytes().decode()
    header, *lines = text.split("\n")
    assert header == (
        '"fixed acidity";"volatile acidity";"citric acid";"residual sugar";"chlorides";'
        '"free sulfur dioxide";"total sulfur dioxide";"density";"pH";"sulphates";"alcohol";'
        '"quality"'
    )
    assert lines.pop() == ""
    assert len(lines) == rows
    assert len(lines) - len(set(lines)) == repeats
    cells = [cell for line in lines for cell in line.split(";")]
    assert len(cells) == 12 * rows
    assert "" in cells
    assert all(cell == f"{float(cell):.10g}" for cell in cells if cell)


# Figures


def _damage(path: list, value: object) -> str:
    figures = json.loads(FIGURES_FILE.read_text(encoding="utf-8"))
    place = figures
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(figures)


BAND = ["types", "red", "bands", 0]
PH = [*BAND, "measurements", "pH"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Invalid JSON"),
        ("{}", "Field required"),
        (_damage(["levels", 0], 0.5), "levels do not increase"),
        (_damage(["missing"], {"sugar": 0.1}), "no measurement"),
        (_damage(["types", "rose"], {}), "rose"),
        (_damage(["types", "red", "shares"], [1.0]), "one share per band"),
        (_damage(["types", "red", "shares", 0], 0.9), "bands do not add up"),
        (_damage([*BAND, "quality"], {"5": 0.5}), "qualities do not add up"),
        (_damage([*BAND, "measurements"], {}), "canonical order"),
        (_damage([*BAND, "correlations", 0, 1], 0.123), "symmetric"),
        (_damage([*BAND, "correlations"], [[1.0] * 12] * 12), "positive definite"),
        (_damage([*BAND, "correlations"], [[1.0]]), "12 x 12"),
        (_damage([*PH, "knots", 0], 9.0), "knots of pH decrease"),
        (_damage([*PH, "knots"], [3.0]), "one knot per level"),
        (_damage([*PH, "steps"], {"10": 0.5}), "steps of pH do not add up"),
        (
            _damage([*BAND, "measurements", "free_sulfur_dioxide", "knots", -1], 900),
            "higher quantiles than total",
        ),
    ],
)
def test_damaged_figures_are_named(tmp_path, text, reason):
    path = tmp_path / "figures.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WineQualityError, match=reason) as caught:
        read_figures(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_figures_are_named(tmp_path):
    with pytest.raises(WineQualityError, match="No such file"):
        read_figures(tmp_path / "figures.json")


def test_figures_are_written_as_they_are_read(tmp_path):
    path = tmp_path / "figures.json"
    write_figures(packaged_figures(), path)
    assert path.read_bytes() == FIGURES_FILE.read_bytes()


def test_the_triangular_factor_gives_back_the_correlations():
    correlations = packaged_figures().types["white"].bands[0].correlations
    lower = np.zeros((12, 12))
    for row, factors in zip(lower, cholesky(correlations), strict=True):
        row[: len(factors)] = factors
    np.testing.assert_allclose(lower @ lower.T, correlations, atol=1e-12)


def test_fitting_synthetic_wines_gives_back_their_figures(many):
    given_figures, fitted = packaged_figures(), fit_figures(many)
    for kind in WINE_TYPES:
        pairs = zip(given_figures.types[kind].bands, fitted.types[kind].bands, strict=True)
        for expected, got in pairs:
            assert got.quality == pytest.approx(expected.quality, abs=0.01)
            # quality's are weakened by its few classes
            np.testing.assert_allclose(
                *(np.array(b.correlations)[:-1, :-1] for b in (got, expected)), atol=0.05
            )
            for measurement in MEASUREMENTS:
                name = measurement.name
                knots = np.array(expected.measurements[name].knots)
                spread = np.quantile(knots, 0.9) - np.quantile(knots, 0.1)
                miss = np.abs(np.array(got.measurements[name].knots) - knots)
                assert np.median(miss) <= 0.02 * spread, (kind, name)


def test_wines_with_gaps_or_too_few_are_not_fitted(many):
    with pytest.raises(WineQualityError, match="missing values"):
        fit_figures(many.head(2_000).assign(pH=np.nan))
    with pytest.raises(WineQualityError, match="Fewer than 100"):
        fit_figures(many.head(50))


def test_files_that_are_not_ucis_are_named(tmp_path):
    with pytest.raises(WineQualityError, match=r"winequality-red\.csv"):
        read_uci(tmp_path)
    (tmp_path / "winequality-red.csv").write_text("a;b\n1;2\n", encoding="utf-8")
    with pytest.raises(WineQualityError, match="twelve columns"):
        read_uci(tmp_path)


def test_the_packaged_figures_are_those_of_the_uci_wines(real):
    packaged, fitted = packaged_figures(), fit_figures(real)
    assert fitted.levels == packaged.levels
    assert fitted.missing == packaged.missing
    for kind in WINE_TYPES:
        assert fitted.types[kind].rows == packaged.types[kind].rows
        assert fitted.types[kind].duplicates == packaged.types[kind].duplicates
        bands = zip(packaged.types[kind].bands, fitted.types[kind].bands, strict=True)
        for expected, got in bands:
            assert got.measurements == expected.measurements
            assert got.quality == expected.quality
            np.testing.assert_allclose(got.correlations, expected.correlations, atol=2e-4)


def test_synthetic_wines_are_near_the_uci_wines(real, many):
    for kind in WINE_TYPES:
        wines, drawn = real[real[TYPE] == kind], many[many[TYPE] == kind]
        assert np.abs(rank_correlations(drawn) - rank_correlations(wines)).max() < 0.05
        for name in [*MEASUREMENT_NAMES, QUALITY]:
            values = np.sort(wines[name].unique())
            shares = [
                np.searchsorted(np.sort(frame[name]), values, side="right") / len(frame)
                for frame in (wines, drawn)
            ]
            assert np.abs(shares[0] - shares[1]).max() < 0.03, (kind, name)


def test_no_wine_of_the_sample_is_a_real_one(real):
    known = set(map(tuple, real[[*MEASUREMENT_NAMES]].to_numpy().tolist()))
    sample = read_uci(SAMPLE)[[*MEASUREMENT_NAMES]].to_numpy().tolist()
    assert not known & set(map(tuple, sample))
