import numpy as np
import pytest

from wine_quality.drift.joint import MOST_PAIRS, correlations, describe_pairs
from wine_quality.drift.profiles import window_profile
from wine_quality.wines import MEASUREMENT_NAMES, WINE_TYPES


def sums(wines, reference):
    return window_profile(wines, reference).sums[0]


def test_correlations_are_those_of_the_types_wines(draw_wines, reference):
    wines = draw_wines(400, 31)
    found = correlations(sums(wines, reference), reference)
    assert tuple(found) == WINE_TYPES
    for kind, (n, correlation) in found.items():
        own = wines[wines["type"] == kind]
        assert n <= len(own)
        exact = own[list(MEASUREMENT_NAMES)].corr().to_numpy()
        # a few wines outside of the plausible ranges are left out
        np.testing.assert_allclose(correlation, exact, atol=0.05)


@pytest.mark.filterwarnings("error")
def test_sums_of_products_add_up(draw_wines, reference):
    parts = [draw_wines(200, seed) for seed in (32, 33)]
    profiles = [window_profile(part, reference) for part in parts]
    together = correlations(profiles[0].merge(profiles[1]).sums[0], reference)
    assert together["red"][0] == sum(correlations(p.sums[0], reference)["red"][0] for p in profiles)


def test_what_goes_together_as_before_is_not_named(draw_wines, reference):
    named = [describe_pairs(sums(draw_wines(300, s), reference), "all", reference) for s in
             range(40, 44)]  # fmt: skip
    # 110 pairs at three standard errors: 0.3 false ones a window
    assert sum(text != "" for text in named) <= 3


def test_the_pairs_that_changed_most_are_named(draw_wines, reference):
    wines = draw_wines(500, 34)
    mixed = wines.assign(pH=wines["pH"].sample(frac=1, random_state=2).to_numpy())
    text = describe_pairs(sums(mixed, reference), "white", reference)
    assert text.startswith("no longer go together: ")
    pairs = text.removeprefix("no longer go together: ").split("; ")
    assert 1 <= len(pairs) <= MOST_PAIRS
    assert all("pH" in pair and " → " in pair for pair in pairs)
    assert "(white)" in describe_pairs(sums(mixed, reference), "all", reference)


@pytest.mark.filterwarnings("error")
def test_few_or_constant_wines_say_nothing(held_out, reference):
    assert describe_pairs(sums(held_out.head(5), reference), "all", reference) == ""
    one = held_out.head(60).assign(**{m: held_out[m].iloc[0] for m in MEASUREMENT_NAMES})
    assert np.isfinite(sums(one, reference)).all()
    describe_pairs(sums(one, reference), "all", reference)
    assert describe_pairs(np.zeros(reference.sums_layout.size), "red", reference) == ""
