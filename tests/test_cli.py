import click
import pytest
from kedro.config import BadConfigException, MissingConfigException
from kedro.framework import project
from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.validation import ParameterValidationError
from kedro_datasets.json import JSONDataset
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError
from pydantic import ValidationError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from yaml import YAMLError, safe_load

from wine_quality.cli import _parse_params, explain
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.download.parameters import SourceFile
from wine_quality.traffic.synthetic import draw_wines


def given(text: str) -> object:
    """What `--params` makes of a text."""
    option = click.Option(["--params"], callback=_parse_params, type=click.UNPROCESSED)
    command = click.Command("run", params=[option], callback=lambda params: params)
    return command.main(["--params", text], standalone_mode=False)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ("a.b=1, a.c=x", {"a": {"b": 1, "c": "x"}}),
        (
            "monitoring.alerts.fail_on=[drift,decayed],serving_simulation.samples=5",
            {
                "monitoring": {"alerts": {"fail_on": ["drift", "decayed"]}},
                "serving_simulation": {"samples": 5},
            },
        ),
        ("a={b: [1, 2], c: {d: 3}},e=", {"a": {"b": [1, 2], "c": {"d": 3}}, "e": None}),
        ("a=[],b={}", {"a": [], "b": {}}),
        ("a='x,y',b=[\"1,2\", '3']", {"a": "x,y", "b": ["1,2", "3"]}),
        # no quotation
        ("a=it's,b=it's", {"a": "it's", "b": "it's"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_parameters_may_be_lists_and_hold_commas(text, parameters):
    assert given(text) == parameters


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=1,b", "Item `b` must contain a key and a value separated by `=`."),
        ("=1", "Parameter key cannot be an empty string."),
        ("a=x,y", "Item `y` must contain a key"),
        ("a=[x,y", "a cannot be read"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused(text, said):
    with pytest.raises(click.UsageError) as caught:
        given(text)
    assert said in caught.value.message


def refuse() -> None:
    raise WineQualityError("No wine file in data: put some there.")


class Refusing(AbstractDataset[None, None]):
    def load(self) -> None:
        refuse()

    def save(self, data: None) -> None:
        refuse()

    def _describe(self) -> dict[str, object]:
        return {}


def test_our_own_message_is_passed_on_in_one_line():
    assert (
        explain(WineQualityError("What is wrong;\n  what to do.")) == "What is wrong; what to do."
    )


def test_our_own_message_is_found_inside_what_kedro_makes_of_it():
    with pytest.raises(DatasetError) as caught:
        Refusing().load()
    assert explain(caught.value) == "No wine file in data: put some there."


def test_our_own_message_is_preferred_to_the_one_raised_while_it_was_handled():
    def fail_while_handling() -> None:
        try:
            refuse()
        except WineQualityError:
            raise ValueError("while cleaning up")  # noqa: B904  without a cause on purpose

    with pytest.raises(ValueError, match="while cleaning up") as caught:
        fail_while_handling()
    assert explain(caught.value) == "No wine file in data: put some there."


@pytest.mark.parametrize(
    "kind",
    [ParameterValidationError, MissingConfigException, BadConfigException, DatasetError],
)
def test_kedros_words_about_configuration_and_files_are_passed_on(kind):
    assert explain(kind("no such\nthing")) == "no such thing"


def test_a_wrong_interpolation_is_explained():
    config = OmegaConf.create({"root": "${nowhere}"})
    with pytest.raises(InterpolationKeyError) as caught:
        OmegaConf.to_container(config, resolve=True)
    assert "nowhere" in explain(caught.value)


def test_broken_yaml_is_explained():
    with pytest.raises(YAMLError) as caught:
        safe_load("a: [1,\nb: 2")
    assert "line 2" in explain(caught.value)


def test_a_database_out_of_reach_is_explained(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder.db")
    with pytest.raises(OperationalError) as caught, engine.connect() as connection:
        connection.execute(text("select 1"))
    assert "unable to open database file" in explain(caught.value)


def test_a_path_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError) as caught:
        JSONDataset(filepath=str(tmp_path / "file" / "audit.json")).save({})
    assert explain(caught.value).startswith(f"{tmp_path}/file")
    assert "See that every folder of this path is one" in explain(caught.value)


def test_trouble_without_a_path_is_not_explained_away():
    assert explain(OSError("out of order")) is None


def test_an_environment_variable_that_is_asked_for_is_named():
    config = OmegaConf.create({"uri": "${oc.env:WINE_QUALITY_NOT_SET}"})
    # the variable's own error is put aside by what names the place
    with pytest.raises(InterpolationResolutionError) as caught:
        OmegaConf.to_container(config, resolve=True)
    assert explain(caught.value) == (
        "Environment variable 'WINE_QUALITY_NOT_SET' not found: set it, or choose another "
        "environment."
    )


def test_wrong_settings_are_named_key_by_key():
    with pytest.raises(ValidationError) as caught:
        SourceFile(page="x", sha256="y", adress="z")
    message = explain(caught.value)
    assert message.startswith("Wrong settings of SourceFile: ")
    assert "sha256: String should match pattern" in message
    assert "adress: Extra inputs are not permitted" in message


def test_mlflows_words_are_passed_on():
    assert explain(MlflowException("no such\nrun")) == "no such run"


def test_wines_that_break_the_contract_are_explained_by_column(tmp_path):
    entry = {
        "type": "pandas.ParquetDataset",
        "filepath": str(tmp_path / "wines.parquet"),
        "validator": "wine_quality.contracts.LABELLED_WINES",
    }
    catalog = DataCatalog.from_config({"wines": entry})
    with pytest.raises(DatasetError) as caught:
        catalog.save("wines", draw_wines(5, 1).assign(alcohol=200.0))
    assert "alcohol: in_range(0, 100)" in explain(caught.value)


def test_a_name_that_kedro_does_not_know_is_explained():
    pipeline = Pipeline([Node(draw_wines, ["rows", "seed"], "wines", name="draw_wines")])
    with pytest.raises(ValueError, match="press_grapes") as caught:
        pipeline.filter(node_names=["press_grapes"])
    assert explain(caught.value) == "Pipeline does not contain nodes named ['press_grapes']."


def test_a_pipeline_that_kedro_does_not_know_is_explained_by_those_it_knows(monkeypatch):
    monkeypatch.setattr(project, "pipelines", {"processing": None, "training": None})
    find = (
        "def find(name):\n"
        "    try:\n"
        "        return {}[name]\n"
        "    except KeyError as error:\n"
        "        raise ValueError(f'Failed to find the pipeline named {name!r}.') from error\n"
    )
    # what counts is where an exception comes from
    kedros = {"__name__": "kedro.framework.session"}
    exec(find, kedros)
    with pytest.raises(ValueError, match="Failed") as caught:
        kedros["find"]("press")
    assert explain(caught.value) == "There is no pipeline 'press': choose processing, training."


def test_a_fault_of_the_program_is_not_explained_away():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert explain(caught.value) is None
    assert explain(KeyError("quality")) is None
    assert explain(ValueError("never raised")) is None
