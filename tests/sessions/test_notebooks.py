import os
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# what must hold of that which a notebook found, in its own names
FINDINGS = {
    "a_run_looked_at": """
assert champion.version.version == catalog.load("promotion")["champion"]
from wine_quality.wines import PREDICTION
assert set(verdicts["column"]) == {*INPUTS, PREDICTION, "joint", "copies", "traffic"}
""",
    "where_the_champion_errs": """
as_registered = catalog.load("held_out_metrics")
for kind, metrics in score_slices(reference).items():
    assert np.allclose(list(metrics.values()), list(as_registered[kind].values()))
# the interval holds what it says; copies taken for wines of their own make it too narrow
honest, naive = (coverage.loc[name] for name in ("groups of equal wines", "single wines"))
assert honest["low"] <= 0.95 <= honest["high"]
assert naive["high"] < 0.95
# two ways to measure importance agree on what matters most
assert of_sklearn["input"].iloc[0] == of_run["input"].iloc[0]
# the runs that were tracked are those that were compared
assert list(names) == list(catalog.load("comparison")["candidate"])
assert ((gains["low"] <= gains["gain"]) & (gains["gain"] <= gains["high"])).all()
assert np.allclose(gains["gain"], gains[runner_up] - gains["champion"])
# the champion's candidate, fitted again, is the champion; what it has seen it knows better
honest, mixed, copied, fresh, tutorial = leaks.itertuples()
assert np.isclose(honest.rmse, as_registered["all"]["rmse"])
assert [honest.seen, copied.seen, fresh.seen] == [0, 1, 0]
assert 0 < mixed.seen < 1
assert copied.high < fresh.low
assert tutorial.high < honest.low
""",
    "how_much_drift_shows": """
assert (quiet["verdict"] != "insufficient_data").all()
# as chosen; at higher rates fewer, since a row has the score of one segment
assert alarms["low"].iloc[0] <= alarms["rate"].iloc[0] <= alarms["high"].iloc[0]
assert (alarms["low"] <= alarms["rate"]).all()
assert (alarms["alarms"].diff().iloc[1:] > 0).all()
# power grows with the window and with the strength, up to chance in a few dozen windows
by_size = mean.pivot(index="wines", columns="strength", values="found")
assert len(by_size) >= 3
assert (by_size.diff().iloc[1:] > -0.03).all(axis=None)
assert (by_size.T.diff().iloc[1:] > -0.03).all(axis=None)
assert (by_size[strengths[2]].diff().iloc[1:] > 0).all()
assert by_size.loc[size, strengths[0]] < 0.5 < 0.95 < by_size.loc[size, strengths[-1]]
# a larger window finds smaller shifts
assert (in_deviations.loc[sizes[-1]] < in_deviations.loc[sizes[0]]).all()
of_kind = found.groupby("kind")["found"]
assert (of_kind.last() > of_kind.first()).all()
assert (of_kind.last() > 0.5).all()
""",
    "your_own_traffic": """
assert len(traffic) == catalog.load("delivery")["acknowledged"]
# by hand as by the run
assert by_hand["verdict"].equals(as_told["verdict"])
assert np.allclose(by_hand["value"], as_told["value"])
assert cells[described.cells[column]].sum() == len(window)
assert np.allclose(errors["mae"], told["mae"])
assert (errors["labelled"] == told["n"]).all()
assert ((errors["low"] < errors["mae"]) & (errors["mae"] < errors["high"])).all()
""",
}

# in place of a notebook's own parameters: fewer repetitions than a reader has time for
FEWER = {"how_much_drift_shows": "quiet_splits, shift_splits, kind_splits = 20, 4, 4"}


def replace_parameters(notebook, source):
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    names = {line.partition("=")[0] for line in cell.source.splitlines() if line[0] != "#"}
    assert names == {line.partition("=")[0] for line in source.splitlines()}
    cell.source = source


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks: each would import the same libraries for seconds."""
    from jupyter_client import KernelManager

    with pytest.MonkeyPatch.context() as patch:
        # the kernel is the interpreter that runs the tests
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("KEDRO_ENV", "test")
        manager = KernelManager()
        manager.start_kernel(cwd=NOTEBOOKS[0].parent)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_after_a_run(path, after_whole_run, kernel):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    if path.stem in FEWER:
        replace_parameters(notebook, FEWER[path.stem])
    cells = list(notebook.cells)
    begin = (
        "%reset -f\n"
        f"import os; os.environ['WINE_QUALITY_TEST_ROOT'] = {str(after_whole_run)!r}; del os"
    )
    findings = f"import numpy as np\n{FINDINGS[path.stem]}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    notebook.cells.append(nbformat.v4.new_code_cell(findings))
    NotebookClient(notebook, km=kernel, timeout=600).execute(cleanup_kc=False)
    assert all(
        cell.outputs
        for cell in cells[2:]
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", ())
    )
