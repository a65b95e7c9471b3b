import pandas as pd
import pytest

from wine_quality.drift.sources import Sources, name_traffic, timeline_of, timelines, version_of


@pytest.mark.parametrize(
    ("version", "source", "name"), [("3", "", "3"), ("3", "simulation", "3 (simulation)")]
)
def test_a_traffic_is_named_by_version_and_source(version, source, name):
    assert name_traffic(version, source) == name
    assert (version_of(name), timeline_of(name)) == (version, source)


def test_a_table_is_divided_into_timelines_the_real_one_first():
    table = pd.DataFrame({"model_version": ["2 (replay)", "1", "1 (replay)", "2"], "n": range(4)})
    found = [(name, rows["n"].tolist()) for name, rows in timelines(table)]
    assert found == [("", [1, 3]), ("replay", [0, 2])]
    assert list(timelines(table.iloc[:0])) == []


@pytest.mark.parametrize("state", ["12:0:0:0:0", "0a1b"])
def test_a_state_says_how_its_log_was_divided(state):
    divisions = [Sources(), Sources(("b", "a")), Sources(("a",), ("b",)), Sources((), ("a", "b"))]
    marked = [sources.mark(state) for sources in divisions]
    assert marked[0] == state
    for sources, own in zip(divisions, marked, strict=True):
        assert [sources.have_marked(other) for other in marked] == [own == m for m in marked]
    # the order of names tells nothing
    assert Sources(("a", "b")).have_marked(marked[1])
