"""Guards of the structure, each with a case in which it fails.

A guard is a function that lists what is wrong; the project's own pipelines and configuration must
give an empty list.
"""

import re
import shutil
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from wine_quality import pipeline_registry, settings
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.parameters import ProjectParameters, check_parameters
from wine_quality.pipelines.steps import step
from wine_quality.wines import fingerprint, wine_groups

PROJECT = Path(__file__).parents[2]
CONF = PROJECT / "conf"
SOURCE = PROJECT / "src"
BASE = "base"
ENVIRONMENTS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
MAIN = ("processing", "training", "serving_simulation", "monitoring")
COMPOSED = {"retraining": ("processing", "retraining")}
"""Pipelines that go on from another one, with the namespaces that they hold."""
SOFT = ("parameters", "globals", "mlflow")

Pipelines = Mapping[str, Pipeline]
Json = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """An environment's configuration, resolved, and the pipelines that it leads to."""

    parameters: Json
    entries: Json
    catalog: DataCatalog
    pipelines: Pipelines


def load_environment(env: str, conf: Path = CONF, **runtime_parameters: Any) -> Setup:
    loader = OmegaConfigLoader(
        conf_source=str(conf),
        env=env,
        runtime_params=runtime_parameters,
        **settings.CONFIG_LOADER_ARGS,
    )
    parameters, entries = loader["parameters"], loader["catalog"]
    assert loader["globals"]
    assert loader["mlflow"]["server"]["mlflow_tracking_uri"]
    checked = check_parameters(parameters)
    pipelines = pipeline_registry.build_pipelines(checked.training)
    catalog = DataCatalog.from_config(entries, loader["credentials"])
    return Setup(parameters, entries, catalog, pipelines)


@pytest.fixture(autouse=True)
def _inside_the_project(monkeypatch, tmp_path):
    """Stand in the checkout, with a value for every variable that an environment asks for."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("WINE_QUALITY_TEST_ROOT", str(tmp_path))
    text = "".join(path.read_text() for path in CONF.rglob("*.yml"))
    for name in re.findall(r"\$\{oc\.env:\s*(\w+)\s*\}", text):
        is_log = "LOG" in name or "DATABASE" in name
        value = f"sqlite:///{tmp_path}/wines.db" if is_log else "http://localhost"
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        return load_environment(BASE)


def take(wines: Any, parameters: Any = None) -> Any:
    return wines, parameters


def datasets_of(pipelines: Pipelines) -> set[str]:
    names = set().union(*(pipeline.datasets() for pipeline in pipelines.values()))
    return {name for name in names if not name.startswith(("params:", "parameters"))}


def nodes_of(pipelines: Pipelines) -> list[Node]:
    found = {node.name: node for pipeline in pipelines.values() for node in pipeline.nodes}
    return [found[name] for name in sorted(found)]


# datasets


def undeclared_datasets(pipelines: Pipelines, catalog: DataCatalog) -> list[str]:
    return sorted(name for name in datasets_of(pipelines) if name not in catalog)


def unused_entries(pipelines: Pipelines, entries: Json) -> list[str]:
    names = datasets_of(pipelines)
    resolver = DataCatalog.from_config(
        entries, {"inference_log": {}, "monitoring": {}, "studies": {}}
    ).config_resolver
    used = names | {resolver.match_dataset_pattern(name) for name in names - entries.keys()}
    return sorted(entry for entry in entries if entry not in used and not entry.startswith("_"))


def catch_all_patterns(entries: Json) -> list[str]:
    return sorted(entry for entry in entries if not re.sub(r"\{.*?\}", "", entry).strip("_."))


def layers_of(pipelines: Pipelines, catalog: DataCatalog) -> dict[str, str]:
    """Give the layer of every dataset that has a file or a database; empty if it has none."""
    configs = {
        name: catalog.config_resolver.resolve_pattern(name) for name in datasets_of(pipelines)
    }
    return {
        name: config.get("metadata", {}).get("kedro-viz", {}).get("layer") or ""
        for name, config in configs.items()
        if config["type"] != "MemoryDataset"
    }


def datasets_without_layer(pipelines: Pipelines, catalog: DataCatalog) -> list[str]:
    return sorted(name for name, layer in layers_of(pipelines, catalog).items() if not layer)


def circle_of_layers(pipelines: Pipelines, catalog: DataCatalog) -> list[str]:
    """Name layers that lie before and behind each other; kedro-viz then draws no layer at all."""
    layers = layers_of(pipelines, catalog)
    before = defaultdict(set)
    for node in nodes_of(pipelines):
        inputs = {layers[name] for name in node.inputs if name in layers}
        for layer in {layers[name] for name in node.outputs if name in layers}:
            before[layer] |= inputs - {layer}
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        return sorted(set(error.args[1]))
    return []


def test_every_dataset_is_declared(base):
    assert undeclared_datasets(base.pipelines, base.catalog) == []


def test_an_undeclared_dataset_is_found(base):
    pipelines = {
        "new": Pipeline([step(take, "accepted_wines", ["wines_nobody_declared", "model"])])
    }
    assert undeclared_datasets(pipelines, base.catalog) == ["wines_nobody_declared"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_catalog_entry_is_used(env):
    setup = load_environment(env)
    assert unused_entries(setup.pipelines, setup.entries) == []
    assert catch_all_patterns(setup.entries) == []


def test_an_unused_entry_is_found(base):
    without = {name: p for name, p in base.pipelines.items() if name in ("processing", "download")}
    found = unused_entries(without, base.entries)
    assert {"comparison", "{candidate}_scores", "inference_log"} <= set(found)
    assert "accepted_wines" not in found
    more = base.entries | {"old_wines": {"type": "MemoryDataset"}, "{all}": {"type": "x"}}
    assert unused_entries(base.pipelines, more) == ["old_wines", "{all}"]
    assert catch_all_patterns(more) == ["{all}"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_persisted_dataset_has_a_layer(env):
    setup = load_environment(env)
    assert datasets_without_layer(setup.pipelines, setup.catalog) == []
    assert circle_of_layers(setup.pipelines, setup.catalog) == []


def test_a_circle_of_layers_is_found():
    layers = {"a": "raw", "b": "primary", "c": "raw", "d": "reporting"}
    entries = {
        name: {
            "type": "pandas.CSVDataset",
            "filepath": f"{name}.csv",
            "metadata": {"kedro-viz": {"layer": layer}},
        }
        for name, layer in layers.items()
    }
    catalog = DataCatalog.from_config(entries)
    forth, back = Node(take, "a", ["b", "d"], name="forth"), Node(take, "b", "c", name="back")
    assert circle_of_layers({"p": Pipeline([forth])}, catalog) == []
    assert circle_of_layers({"p": Pipeline([forth, back])}, catalog) == ["primary", "raw"]


def test_a_dataset_without_layer_is_found():
    file = {"type": "pandas.CSVDataset", "filepath": "wines.csv"}
    entries = {
        "bare": file,
        "other": file | {"metadata": {"kedro-viz": {"preview_args": {}}}},
        "empty": file | {"metadata": {"kedro-viz": {"layer": None}}},
        "fine": file | {"metadata": {"kedro-viz": {"layer": "primary"}}},
        "memory": {"type": "MemoryDataset"},
    }
    pipelines = {"p": Pipeline([Node(take, list(entries)[:2], list(entries)[2:], name="take")])}
    found = datasets_without_layer(pipelines, DataCatalog.from_config(entries))
    assert found == ["bare", "empty", "other"]


# nodes


def nodes_without_types(pipelines: Pipelines) -> list[str]:
    """List the nodes whose types Kedro cannot read, of which it warns in every run."""
    found = []
    for node in nodes_of(pipelines):
        try:
            get_type_hints(node.func)
        except (NameError, TypeError):
            found.append(node.name)
    return found


def misnamed_nodes(pipelines: Pipelines) -> list[str]:
    return [n.name for n in nodes_of(pipelines) if n.name.split(".")[-1] != n.func.__name__]


def nodes_outside_of(pipelines: Pipelines) -> list[str]:
    """List the nodes whose namespace is not the name of their pipeline or within it."""
    return [
        node.name
        for name, pipeline in pipelines.items()
        for node in pipeline.nodes
        if name != "__default__"
        and (node.namespace or "").split(".")[0] not in COMPOSED.get(name, (name,))
    ]


def test_every_node_is_named_like_its_function(base):
    assert misnamed_nodes(base.pipelines) == []


def test_kedro_can_read_the_types_of_every_node(base):
    assert nodes_without_types(base.pipelines) == []


def pour(wine: "Vintage") -> None:  # noqa: F821 - known to a type checker at most
    pass


def test_a_node_whose_types_cannot_be_read_is_found():
    assert nodes_without_types({"p": Pipeline([Node(pour, "a", None, name="pour")])}) == ["pour"]


def test_an_unnamed_or_misnamed_node_is_found():
    pipelines = {
        "p": Pipeline(
            [
                Node(wine_groups, "a", "b"),
                Node(fingerprint, "a", "c", name="hash_wines"),
                step(take, "a", ["d", "e"]),
            ],
            namespace="p",
        )
    }
    unnamed, misnamed = sorted(misnamed_nodes(pipelines), reverse=True)
    assert unnamed.startswith("p.wine_groups__")
    assert misnamed == "p.hash_wines"


def test_every_pipeline_is_a_namespace(base):
    assert set(MAIN) <= base.pipelines.keys()
    assert nodes_outside_of(base.pipelines) == []
    for name in MAIN:
        assert base.pipelines[name].nodes


def test_a_node_outside_of_its_pipelines_namespace_is_found():
    pipelines = {"training": Pipeline([step(take, "a", ["b", "c"])], namespace="train")}
    assert nodes_outside_of(pipelines) == ["train.take"]
    pipelines = {"training": Pipeline([step(take, "a", ["b", "c"])])}
    assert nodes_outside_of(pipelines) == ["take"]


def test_the_default_is_the_sum_of_the_four_and_a_little_tuning(base):
    nodes = {node.name for name in MAIN for node in base.pipelines[name].nodes}
    default = {node.name for node in base.pipelines["__default__"].nodes}
    assert nodes < default
    assert default - nodes == {"tuning.xgboost.tune_candidate", "tuning.summarise_tuning"}
    budgets = {name for name in base.pipelines["__default__"].inputs() if "params:tuning." in name}
    assert budgets == {"params:tuning.search", "params:tuning.quick"}


# candidates


def candidate_namespaces(pipelines: Pipelines) -> set[str]:
    namespaces = (node.namespace or "" for node in pipelines["training"].nodes)
    return {name.partition(".")[2] for name in namespaces} - {""}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_enabled_candidate_has_a_namespace_of_its_own(env):
    setup = load_environment(env)
    candidates = check_parameters(setup.parameters).training.candidates
    enabled = {name for name, candidate in candidates.items() if candidate.enabled}
    assert candidate_namespaces(setup.pipelines) == enabled
    for name in enabled:
        box = setup.pipelines["training"].filter(node_namespaces=[f"training.{name}"])
        expected = {"cross_validate_candidate": f"{name}_scores"}
        if candidates[name].published:
            expected["judge_as_published"] = f"{name}_as_published"
        made = {node.func.__name__: output for node in box.nodes for output in node.outputs}
        assert made == expected


def test_a_candidate_can_be_disabled_by_parameter():
    off = {"training": {"candidates": {"xgboost": {"enabled": False}}}}
    before, after = (load_environment(BASE, **given).pipelines for given in ({}, off))
    assert candidate_namespaces(before) - candidate_namespaces(after) == {"xgboost"}
    assert not [name for name in datasets_of(after) if "xgboost" in name]
    # nor is it tuned any more, which it was in the default run
    assert not [node for node in after["__default__"].nodes if "tuning" in node.name]


def test_a_candidate_can_be_added_by_parameter():
    ridge = {"estimator": "sklearn.linear_model.Ridge", "scale": True}
    setup = load_environment(BASE, training={"candidates": {"ridge": ridge}})
    assert "ridge" in candidate_namespaces(setup.pipelines)
    assert undeclared_datasets(setup.pipelines, setup.catalog) == []
    assert datasets_without_layer(setup.pipelines, setup.catalog) == []


def test_an_added_candidate_runs_and_takes_part(kedro_here, after_whole_run, load):
    prefix = "training.candidates"
    given = (
        f"{prefix}.ridge.estimator=sklearn.linear_model.Ridge,{prefix}.ridge.scale=true,"
        f"{prefix}.extra_trees_regressor.enabled=false"
    )
    outcome = kedro_here(
        *("--env", "test", "--pipeline", "training", "--params", given), root=after_whole_run
    )
    assert outcome.status == 0, outcome.errors
    comparison = load(after_whole_run, ["comparison"])["comparison"]
    assert set(comparison["candidate"]) == {
        *("decision_tree_classifier", "k_neighbors_regressor", "ridge")
    }
    (ridge,) = comparison.query("candidate == 'ridge'").to_dict(orient="records")
    assert 0.5 < ridge["rmse"] < 0.9


# parameters


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """List every leaf of nested mappings with the keys that lead to it."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, str(key)))
    else:
        yield path, tree


def parameters_of(pipelines: Pipelines) -> set[tuple[str, ...]]:
    # by pipeline: a node may take one parameter in the default run and another by itself
    names = set().union(*(pipeline.inputs() for pipeline in pipelines.values()))
    return {
        tuple(name.removeprefix("params:").split("."))
        for name in names
        if name.startswith("params:")
    }


def missing_parameters(pipelines: Pipelines, parameters: Json) -> list[str]:
    """List the parameters that a node asks for and no file gives."""
    given = {path[:i] for path, _ in leaves(parameters) for i in range(1, len(path) + 1)}
    return sorted(".".join(path) for path in parameters_of(pipelines) - given)


def unused_parameters(pipelines: Pipelines, parameters: Json) -> list[str]:
    """List the parameters that no node asks for; a candidate that is disabled has no node."""
    used = parameters_of(pipelines)
    candidates = parameters.get("training", {}).get("candidates", {})
    used |= {
        ("training", "candidates", name)
        for name, candidate in candidates.items()
        if not candidate.get("enabled", True)
    }
    return sorted(
        ".".join(path)
        for path, _ in leaves(parameters)
        if not any(path[:i] in used for i in range(1, len(path) + 1))
    )


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """List a model and the models of its fields, however deep."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models_in(field.annotation)
    for inner in typing.get_args(kind):
        yield from models_in(inner)


def holders_of(model: type[BaseModel], root: type[BaseModel]) -> set[str]:
    """Names of a model and of those that hold it, directly or within another."""
    return {one.__name__ for one in models_in(root) if model in set(models_in(one))}


def unread_fields(root: type[BaseModel], sources: Iterable[str], taken: Iterable[str]) -> list[str]:
    """List the fields of parameter models that no code reads as an attribute.

    Args:
        root: The model of all.
        sources: Code; what reads a field has to name the model, or one that holds it.
        taken: Fields that a node takes as a whole.
    """
    words = [set(re.findall(r"\w+", source)) for source in sources]
    reads = [set(re.findall(r"\.(\w+)", source)) for source in sources]
    known = set(taken)
    unread = []
    for model in set(models_in(root)):
        holders = holders_of(model, root)
        read = set().union(*(r for w, r in zip(words, reads, strict=True) if w & holders))
        unread += [
            f"{model.__name__}.{name}"
            for name, field in model.model_fields.items()
            # by the one value of a literal Pydantic itself chooses among models
            if name not in read | known and typing.get_origin(field.annotation) is not Literal
        ]
    return sorted(unread)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_parameter_is_there_and_used(env):
    setup = load_environment(env)
    assert missing_parameters(setup.pipelines, setup.parameters) == []
    assert unused_parameters(setup.pipelines, setup.parameters) == []


def test_a_missing_and_an_unused_parameter_are_found(base):
    asking = Pipeline([step(take, ["model", "params:training.comparison.sead"], ["a", "b"])])
    pipelines = base.pipelines | {"more": asking}
    assert missing_parameters(pipelines, base.parameters) == ["training.comparison.sead"]
    parameters = base.parameters | {"tasting": {"glasses": 6, "guests": {"many": True}}}
    assert unused_parameters(base.pipelines, parameters) == [
        "tasting.glasses",
        "tasting.guests.many",
    ]
    without = {name: p for name, p in base.pipelines.items() if name in ("processing", "download")}
    assert "monitoring.drift.window" in unused_parameters(without, base.parameters)


def test_every_field_of_the_parameters_is_read_somewhere(base):
    sources = [path.read_text() for path in SOURCE.rglob("*.py")]
    # or is what a node takes as a whole
    taken = [name for path in parameters_of(base.pipelines) for name in path]
    # templates name no models
    for path in SOURCE.rglob("*.md"):
        taken += re.findall(r"\.(\w+)", path.read_text())
    assert unread_fields(ProjectParameters, sources, taken) == []


def test_a_field_that_nothing_reads_is_found():
    class Glass(BaseModel):
        volume: float
        colour: str

    class Tasting(BaseModel):
        glasses: dict[str, Glass] | None

    source = "def pour(tasting: Tasting): return tasting.glasses['red'].volume"
    assert unread_fields(Tasting, [source], []) == ["Glass.colour"]
    # the colour of something else
    other = "def paint(wall): return wall.colour"
    assert unread_fields(Tasting, [source, other], []) == ["Glass.colour"]
    assert unread_fields(Tasting, [source], ["colour"]) == []


def test_an_unknown_parameter_is_refused_at_every_level(base):
    model = check_parameters(base.parameters).model_dump(mode="json")
    groups = {path[:i] for path, _ in leaves(model) for i in range(len(path))}
    # what an estimator, a backend or a list of files takes is not ours to know
    free = {"settings", "config", "sources", "candidates", "scenarios"}
    closed = {group for group in groups if not free & set(group)}
    assert {(), ("training", "comparison", "cross_validation"), ("monitoring", "drift")} <= closed
    for group in closed:
        with pytest.raises(WineQualityError, match=r"misspelt: there is no such parameter"):
            check_parameters(with_value(model, (*group, "misspelt"), 1))
    named = [("training", "candidates", name) for name in model["training"]["candidates"]]
    named += [
        ("serving_simulation", "drift", "scenarios", name)
        for name in model["serving_simulation"]["drift"]["scenarios"]
    ]
    for group in named:
        path = (*group, "misspelt")
        with pytest.raises(WineQualityError, match=r"misspelt: there is no such parameter"):
            check_parameters(with_value(model, path, 1))


def with_value(tree: Json, path: tuple[str, ...], value: Any) -> Json:
    """Give a copy of nested mappings with one more value."""
    key, *rest = path
    return tree | {key: with_value(tree.get(key, {}), tuple(rest), value) if rest else value}


# environments


def redundant_settings(conf: Path, env: str) -> list[str]:
    """List what an environment repeats of base, or of a parameter's default."""
    found = []
    for kind in ("parameters", "globals", "mlflow", "catalog", "credentials"):
        ours, theirs = (raw_settings(conf / name, kind) for name in (env, BASE))
        if kind not in SOFT:
            # these replace whole entries, so that an entry has to repeat what it keeps
            found += [f"{kind}: {key}" for key in ours if ours[key] == theirs.get(key, object())]
            continue
        known = dict(leaves(theirs))
        if kind == "parameters":
            loaded = load_environment(BASE, conf).parameters
            known |= dict(leaves(check_parameters(loaded).model_dump(mode="json")))
        found += [
            f"{kind}: {'.'.join(path)}"
            for path, value in leaves(ours)
            if path in known and known[path] == value
        ]
    return found


def raw_settings(folder: Path, kind: str) -> Json:
    """Read the files of a kind as they are written, without resolving anything."""
    files = [OmegaConf.load(path) for path in sorted(folder.rglob(f"{kind}*.yml"))]
    return typing.cast(Json, OmegaConf.to_container(OmegaConf.merge({}, *files), resolve=False))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_resolves_and_its_datasets_can_be_made(env):
    setup = load_environment(env)
    for name in datasets_of(setup.pipelines):
        assert setup.catalog.get(name) is not None


def test_an_environment_that_does_not_resolve_is_found(tmp_path):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    broken = conf / "broken"
    broken.mkdir()
    file = broken / "globals.yml"
    file.write_text("root: ${oc.env:WINE_QUALITY_NOT_SET}\n")
    with pytest.raises(OmegaConfBaseException, match="WINE_QUALITY_NOT_SET"):
        load_environment("broken", conf)
    file.rename(broken / "parameters_monitoring.yml").write_text("monitoring: {drfit: {}}\n")
    with pytest.raises(WineQualityError, match=r"monitoring\.drfit"):
        load_environment("broken", conf)


@pytest.mark.parametrize("env", [env for env in ENVIRONMENTS if env != BASE])
def test_an_environment_holds_differences_only(env):
    assert redundant_settings(CONF, env) == []


def test_a_setting_that_says_nothing_new_is_found(tmp_path):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    env = conf / "repeating"
    env.mkdir()
    (env / "globals.yml").write_text("root: elsewhere\nregistered_model: wine-quality\n")
    (env / "parameters_training.yml").write_text(
        "training:\n  comparison: {metric: rmse, cross_validation: {folds: 7}}\n"
        "  candidates: {xgboost: {enabled: true, scale: true}}\n"
    )
    (env / "credentials.yml").write_text((conf / BASE / "credentials.yml").read_text())
    assert redundant_settings(conf, "repeating") == [
        "parameters: training.comparison.metric",
        "parameters: training.candidates.xgboost.enabled",
        "globals: registered_model",
        "credentials: inference_log",
        "credentials: studies",
        "credentials: monitoring",
    ]


def unknown_globals(conf: Path, env: str) -> list[str]:
    """List the globals of an environment that base does not have, or that hold no value."""
    ours, theirs = (raw_settings(conf / name, "globals") for name in (env, BASE))
    return sorted(key for key in ours if key not in theirs or ours[key] is None)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_global_is_known_to_base(env):
    assert unknown_globals(CONF, env) == []


def test_a_misspelt_or_empty_global_is_found(tmp_path):
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    (conf / "drift" / "globals.yml").write_text("raww: data\nroot:\nraw: data\n")
    assert unknown_globals(conf, "drift") == ["raww", "root"]


def test_no_secret_stands_in_the_configuration():
    for path in CONF.rglob("credentials*.yml"):
        for keys, value in leaves(OmegaConf.to_container(OmegaConf.load(path), resolve=False)):
            is_place = isinstance(value, str) and value.startswith(("${", "sqlite:///"))
            assert is_place, f"{path}: {'.'.join(keys)}"
