import pytest
from kedro.pipeline import Pipeline, node

from wine_quality.errors import WineQualityError
from wine_quality.pipelines.preflight import check_before_run


def test_a_dataset_of_the_run_is_asked_before_the_first_node_and_no_other():
    class Careful:
        def check_before_run(self):
            raise WineQualityError("the registry is away")

    catalog = {"wines": object(), "model": Careful()}
    check_before_run(Pipeline([node(len, "wines", "many")]), catalog, None, ())
    with pytest.raises(WineQualityError, match="registry is away"):
        check_before_run(Pipeline([node(len, "wines", "model")]), catalog, None, ())
