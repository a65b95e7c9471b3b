import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.performance import PERFORMANCE_DTYPES, judge_performance
from wine_quality.drift.profiles import count, window_profile
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings


@pytest.fixture(scope="module")
def judge(reference):
    """Judge the model on wines as one window: rows by segment."""

    def judge(wines, against=reference, settings=DriftSettings()):  # noqa: B008
        profile = window_profile(wines, against)
        verdicts = judge_performance(profile, profile.starts + 86_400, against, "3", settings)
        return verdicts.set_index("segment").loc[["all", "red", "white"]]

    return judge


@pytest.fixture(scope="module")
def window(draw_wines):
    return draw_wines(400, 78)


def test_the_figures_are_those_of_the_labelled_wines(window, held_out, judge):
    labelled = window.assign(quality=window["quality"].where(window.index < 300))
    row = judge(labelled).loc["all"]
    error = (window["prediction"] - window["quality"])[:300]
    assert row["n"] == 300
    assert row["mae"] == pytest.approx(error.abs().mean())
    assert row["rmse"] == pytest.approx((error**2).mean() ** 0.5)
    assert row["bias"] == pytest.approx(error.mean())
    assert row["accuracy_within_half"] == pytest.approx((error.abs() <= 0.5).mean())
    assert row["accuracy_within_one"] == pytest.approx((error.abs() <= 1).mean())
    before = held_out["prediction"] - held_out["quality"]
    assert row["reference_mae"] == pytest.approx(before.abs().mean())
    assert row["reference_bias"] == pytest.approx(before.mean())


def test_a_model_as_good_as_before_is_ok(window, judge):
    verdicts = judge(window)
    assert set(verdicts["verdict"]) == {"ok"}
    assert "is within" in verdicts.loc["all", "reason"]


@pytest.mark.parametrize("by", [-0.6, 0.6])
def test_a_model_that_errs_more_has_decayed(by, window, judge):
    verdicts = judge(window.assign(prediction=window["prediction"] + by))
    assert verdicts.loc["all", "verdict"] == "decayed"
    assert verdicts.loc["all", "value"] > verdicts.loc["all", "threshold"]
    assert verdicts.loc["all", "bias"] == pytest.approx(by, abs=0.1)
    assert "exceeds" in verdicts.loc["all", "reason"]
    # a shift of all predictions shows in the bias first
    assert verdicts.loc["all", "reason"].startswith(f"mean error {by:+.1f}"[:13])


@pytest.mark.parametrize("by", [-0.25, 0.25])
def test_a_quarter_of_a_point_of_bias_is_found_that_the_absolute_error_hides(by, draw_wines, judge):
    """Tasters who are a quarter point stricter, or milder."""
    found = 0
    for seed in range(12):
        wines = draw_wines(300, 600 + seed)
        row = judge(wines.assign(prediction=wines["prediction"] + by)).loc["all"]
        found += row["verdict"] == "decayed"
        if row["verdict"] == "decayed":
            assert row["value"] == abs(row["bias_score"]) > row["threshold"]
            assert f"mean error {row['bias']:+.3f} at 300 labelled wines" in row["reason"]
    assert found >= 11


def test_a_model_that_errs_less_has_not_decayed(window, judge):
    error = window["prediction"] - window["quality"]
    better = window.assign(prediction=window["quality"] + 0.3 * (error - error.mean()))
    verdicts = judge(better)
    assert set(verdicts["verdict"]) == {"ok"}
    assert (verdicts["mae_score"] < -5).all()


def test_decay_on_one_type_is_seen_there(window, judge):
    red = window["type"] == "red"
    verdicts = judge(window.assign(prediction=window["prediction"] + np.where(red, 0.8, 0)))
    assert verdicts.loc["red", "verdict"] == "decayed"
    assert verdicts.loc["white", "verdict"] == "ok"


def test_without_labels_that_is_the_verdict(window, judge):
    verdicts = judge(window.assign(quality=np.nan))
    assert set(verdicts["verdict"]) == {"no_labels"}
    assert (verdicts["n"] == 0).all()
    assert verdicts[["value", "threshold", "mae"]].isna().all(axis=None)
    assert verdicts.loc["red", "reason"] == "no ground truth yet"


def test_thousands_are_set_off_in_reasons(window, judge):
    assert "at 1,200 labelled wines" in judge(pd.concat([window] * 3)).loc["all", "reason"]


def test_few_labels_are_not_judged(window, judge):
    verdicts = judge(window.head(60).assign(prediction=0.0))
    assert verdicts.loc["all", "verdict"] == "decayed"
    assert verdicts.loc["red", "verdict"] == "insufficient_data"
    assert "labelled wines, fewer than the 50" in verdicts.loc["red", "reason"]
    fewer = judge(window.head(49).assign(prediction=0.0))
    assert set(fewer["verdict"]) == {"insufficient_data"}
    assert fewer["threshold"].isna().all()


def test_few_held_out_wines_of_a_type_are_not_a_reference(held_out, window, judge):
    reds = held_out[held_out["type"] == "red"].head(20)
    own = Reference.from_wines(pd.concat([held_out[held_out["type"] == "white"], reds]))
    verdicts = judge(window, own)
    assert verdicts.loc["red", "verdict"] == "insufficient_data"
    assert "20 reference wines, fewer" in verdicts.loc["red", "reason"]


def test_wines_of_unknown_type_count_among_all(window, judge):
    assert judge(window.assign(type="rosé"))["n"].tolist() == [400, 0, 0]


def test_a_small_rise_is_too_small_to_matter(draw_wines, judge):
    own = Reference.from_wines(draw_wines(20_000, 3))
    wines = draw_wines(20_000, 4)
    worse = wines.assign(
        prediction=wines["quality"] + 1.06 * (wines["prediction"] - wines["quality"])
    )
    row = judge(worse, own).loc["all"]
    assert row["value"] > row["threshold"]
    assert row["verdict"] == "ok"
    assert "too small to matter" in row["reason"]
    strict = judge(worse, own, DriftSettings(min_mae_rise=0.0))
    assert strict.loc["all", "verdict"] == "decayed"


def test_the_bias_has_a_floor_of_its_own(draw_wines, judge):
    own = Reference.from_wines(draw_wines(20_000, 3))
    wines = draw_wines(20_000, 4)
    wines = wines.assign(prediction=wines["prediction"] + 0.07)
    row = judge(wines, own).loc["all"]
    assert row["verdict"] == "ok"
    assert row["reason"].endswith("too small to matter (floor 0.1)")
    strict = judge(wines, own, DriftSettings(min_bias_change=0.05))
    assert strict.loc["all", "verdict"] == "decayed"


@pytest.mark.slow
def test_false_alarms_keep_to_the_chosen_rate(draw_wines, as_log):
    settings = DriftSettings(
        false_alarm_rate=0.05, resamples=500, min_mae_rise=0, min_bias_change=0
    )
    flagged = []
    for seed in range(10):
        own = Reference.from_wines(draw_wines(800, seed))
        profile = count(as_log(draw_wines(12_000, 60 + seed), 240), own)
        verdicts = judge_performance(profile, profile.starts + 86_400, own, "3", settings)
        decayed = verdicts["verdict"] == "decayed"
        flagged += decayed.groupby(verdicts["window_start"]).any().tolist()
    # 500 windows in ten groups that share a reference: 25 expected
    assert 0.015 <= np.mean(flagged) <= 0.09


def test_no_data_gives_no_verdicts_of_the_right_types(window, reference, as_log):
    profile = count(as_log(window).head(0), reference)
    verdicts = judge_performance(profile, profile.starts, reference, "3", DriftSettings())
    assert verdicts.empty
    assert verdicts.dtypes.astype(str).to_dict() == PERFORMANCE_DTYPES


# Why


@pytest.fixture(scope="module")
def uneven(draw_wines):
    """Wines on which the model errs more the stronger they are, and its reference."""

    def draw(n, seed, strong=1.0):
        wines = draw_wines(n, seed)
        wines["alcohol"] = wines["alcohol"] * strong
        size = np.where(wines["alcohol"] > 11, 0.9, 0.3)
        noise = np.random.default_rng(seed).normal(size=n)
        return wines.assign(quality=6.0, prediction=6 + size * noise)

    return draw, Reference.from_wines(draw(4000, 1))


def test_the_parts_add_up_to_the_rise(window, uneven, judge):
    draw, own = uneven
    for wines in (draw(500, 2), draw(500, 3, strong=1.1), draw(500, 4).assign(quality=5.0)):
        row = judge(wines, own).loc["all"]
        rise = row["mae"] - row["reference_mae"]
        assert row["covariate"] + row["concept"] == pytest.approx(rise, abs=1e-12)
    assert judge(window).loc["red", ["covariate", "concept", "expected_mae"]].isna().all()


def test_harder_wines_are_covariate_and_stricter_tasters_are_concept(uneven, judge):
    draw, own = uneven
    harder = judge(draw(1000, 5, strong=1.15), own).loc["all"]
    assert harder["covariate"] > 0.1
    assert abs(harder["concept"]) < 0.06
    stricter = draw(1000, 6)
    row = judge(stricter.assign(quality=5.0), own).loc["all"]
    assert row["verdict"] == "decayed"
    assert abs(row["covariate"]) < 0.06
    assert row["concept"] > 0.4
    assert "is explained by the wines" in row["reason"]


def test_the_cells_where_it_happened_are_named(uneven, judge):
    draw, own = uneven
    wines = draw(1000, 7)
    weak = wines["alcohol"] < 10.5
    row = judge(wines.assign(prediction=wines["prediction"] + weak), own).loc["all"]
    assert row["verdict"] == "decayed"
    assert "alcohol up to 1" in row["reason"]
    assert " instead of 0.2" in row["reason"]


def test_before_labels_the_wines_say_which_error_to_expect(uneven, judge):
    draw, own = uneven
    usual, harder = (
        judge(draw(1000, 8, strong).assign(quality=np.nan), own).loc["all"]
        for strong in (1.0, 1.15)
    )
    assert usual["verdict"] == harder["verdict"] == "no_labels"
    assert usual["expected_mae"] == pytest.approx(usual["reference_mae"] or 0.4, abs=0.04)
    assert harder["expected_mae"] > usual["expected_mae"] + 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda w: w.head(1),
        lambda w: w.head(30),
        lambda w: w.assign(quality=np.nan),
        lambda w: w.assign(quality=w["quality"].where(w.index < 20)),
        lambda w: w.assign(quality=6.0),
        lambda w: w.assign(prediction=w["quality"]),
        lambda w: w.assign(prediction=w["prediction"].where(w.index > 2, 1e300)),
        lambda w: pd.concat([w.head(1)] * 200),
        lambda w: w.assign(type="rosé"),
    ],
)
def test_odd_references_and_windows_are_judged_without_a_warning(
    spoil, window, held_out, reference, judge
):
    few = DriftSettings(resamples=500)
    for verdicts in (
        judge(window, Reference.from_wines(spoil(held_out)), few),
        judge(spoil(window), reference, few),
        judge(spoil(window), Reference.from_wines(spoil(held_out)), few),
    ):
        judged = verdicts["verdict"].isin(["ok", "decayed"])
        assert verdicts.loc[judged, ["value", "threshold"]].notna().all(axis=None)
        assert not verdicts["reason"].str.contains("nan").any()


def test_errors_that_are_all_alike_are_no_ground_for_alarm(held_out, window, judge):
    exact = Reference.from_wines(held_out.assign(prediction=held_out["quality"]))
    nearly = window.assign(prediction=window["quality"] + 0.001)
    assert judge(nearly, exact).loc["all", "verdict"] == "ok"
    assert judge(window, exact).loc["all", "verdict"] == "decayed"
