import hashlib

import numpy as np
import pandas as pd
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from tests import crafted_versions as crafted
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, build_model, fit_candidate
from wine_quality.modelling.loading import (
    CANDIDATE_TYPES,
    BrokenVersionError,
    check_onnx,
    find_untrusted_types,
    load_model,
    load_skops,
    read_reference,
    trusted_in,
)
from wine_quality.modelling.registry import CHAMPION
from wine_quality.wines import INPUTS, PREDICTION, QUALITY


@pytest.fixture
def model(labelled_wines):
    candidate = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": 3})
    return build_model(candidate, 0).fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY])


@pytest.fixture
def saved(model, tmp_path):
    return crafted.save_model(model, tmp_path / "model")


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-ran"


def test_a_model_comes_back(saved, model, labelled_wines):
    digest = hashlib.sha256((saved / "model.skops").read_bytes()).hexdigest()
    again = load_model(saved, (), digest)
    assert (again.predict(labelled_wines) == model.predict(labelled_wines)).all()


def test_a_file_that_was_changed_is_refused(saved):
    with pytest.raises(BrokenVersionError, match=r"digest of its file model\.skops is not"):
        load_model(saved, (), "0" * 64)


# What would run


@pytest.mark.parametrize("kind", crafted.CRAFTED)
@pytest.mark.parametrize("protocol", [0, 2])
def test_a_crafted_file_runs_nothing(marker, kind, protocol):
    content = crafted.skops_with(crafted.CRAFTED[kind](marker), protocol)
    with pytest.raises(BrokenVersionError, match=r"promote another|cannot be read"):
        load_skops(content, ())
    # not even where somebody trusts these types
    with pytest.raises(BrokenVersionError, match=r"could run code|cannot be read|not trusted"):
        load_skops(content, ["subprocess.Popen"])
    assert not marker.exists()


@pytest.mark.parametrize("kind", crafted.CRAFTED)
def test_the_same_file_runs_where_it_is_trusted_by_its_own_word(marker, kind):
    import skops.io

    """Otherwise the test above would prove nothing."""
    content = crafted.skops_with(crafted.CRAFTED[kind](marker))
    made = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    if hasattr(made, "wait"):
        made.wait(30)
    assert marker.exists()


@pytest.mark.parametrize(
    "part",
    [
        {"__loader__": "OperatorFuncNode", "__module__": "operator", "__class__": "methodcaller"},
        {"__loader__": "MethodNode", "__module__": "builtins", "__class__": "str"},
        {"__loader__": "PartialNode", "__module__": "functools", "__class__": "partial"},
        {"__loader__": "CachedNode", "__module__": "builtins", "__class__": "str"},
        {"__loader__": "OneMoreNode", "__module__": "builtins", "__class__": "str"},
        {"__loader__": "TypeNode", "__module__": "posix", "__class__": "system"},
    ],
)
def test_parts_that_call_what_the_file_names_are_refused_before_skops_sees_them(part, monkeypatch):
    import skops.io

    monkeypatch.setattr(skops.io, "get_untrusted_types", None)
    monkeypatch.setattr(skops.io, "loads", None)
    hidden = crafted.sequence("ListNode", "list", crafted.text("x"), part)
    with pytest.raises(BrokenVersionError, match=f"kind {part['__loader__']}"):
        load_skops(crafted.skops_with(hidden), ["functools.partial", "posix.system"])


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_what_is_no_skops_file_is_said(content):
    with pytest.raises(BrokenVersionError, match=r"model\.skops cannot be read"):
        load_skops(content, ())


def test_a_pickle_beside_it_is_refused(saved, marker):
    crafted.pickle_beside(saved, marker)
    with pytest.raises(BrokenVersionError, match=r"beside its model\.skops lies model\.pkl"):
        load_model(saved, (), None)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["code/ours.py", "lib.so", "model.joblib", "sitecustomize.py"])
def test_what_is_no_description_is_refused(saved, name):
    path = saved / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(BrokenVersionError, match=f"lies {name}, which could run code"):
        load_model(saved, (), None)


def test_a_link_is_refused(saved, tmp_path):
    (saved / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(BrokenVersionError, match=r"lies notes\.txt"):
        load_model(saved, (), None)


@pytest.mark.parametrize("serialisation", ["cloudpickle", "pickle"])
def test_a_pickled_model_is_refused(tmp_path, marker, serialisation):
    folder = tmp_path / "model"
    _pickled(folder, marker, serialisation)
    with pytest.raises(BrokenVersionError, match=f"saved as {serialisation}, which runs code"):
        load_model(folder, (), None)
    assert not marker.exists()


def _pickled(folder, marker, serialisation):
    folder.mkdir()
    crafted.pickle_beside(folder, marker)
    sklearn = {"pickled_model": "model.pkl", "serialization_format": serialisation}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": sklearn}}))


def change(flavor, **values):
    return lambda description: description["flavors"].setdefault(flavor, {}).update(values)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (change("sklearn", code="code"), "brings code of its own"),
        (change("python_function", code="code"), "brings code of its own"),
        (change("pytorch", model_data="data"), "the flavour pytorch"),
        (change("python_function", loader_module="ours"), "names another file or loader"),
        (change("python_function", model_path="model.json"), "names another file or loader"),
        (change("sklearn", pickled_model="notes.txt"), "names another file or loader"),
        (change("sklearn", serialization_format=None), "saved as None"),
        (change("sklearn", skops_trusted_types=["posix.system"]), r"not trusted \(posix\.system\)"),
        (lambda description: description.pop("flavors"), "describes no scikit-learn model"),
    ],
)
def test_a_description_that_leads_elsewhere_is_refused(saved, how, said):
    crafted.describe(saved, how)
    with pytest.raises(BrokenVersionError, match=said):
        load_model(saved, (), None)


def test_a_description_that_runs_code_by_itself_runs_nothing(saved, marker):
    tag = f"!!python/object/apply:os.mkdir ['{marker}']\n"
    (saved / "MLmodel").write_text(f"flavors: {tag}")
    with pytest.raises(BrokenVersionError, match="describes no scikit-learn model"):
        load_model(saved, (), None)
    assert not marker.exists()


# What is trusted


class OurTree:
    """A class of a team."""

    def __init__(self):
        self.depth = 3


def test_a_teams_type_is_named_to_be_loaded(model):
    import skops.io

    model.steps[-1] = ("estimator", OurTree())
    content = skops.io.dumps(model)
    ours = f"{OurTree.__module__}.OurTree"
    assert find_untrusted_types(content, ()) == [ours]
    with pytest.raises(BrokenVersionError) as refused:
        load_skops(content, ())
    assert str(refused.value) == (
        f"it holds types that are not trusted ({ours}): promote another version, or, if they are "
        "your team's own, name them in trusted_types of globals.yml (for the service: in "
        "WINE_QUALITY_TRUSTED_TYPES)"
    )
    with pytest.raises(WineQualityError, match="OurTree holds types that nobody has allowed"):
        trusted_in(model, ())
    assert load_skops(content, [ours])[-1].depth == 3
    assert ours in trusted_in(model, [ours])


def shipped_candidates():
    from tests.sessions.test_structure import CONF

    for path in sorted(CONF.glob("*/parameters_training.yml")):
        base = yaml.safe_load((CONF / "base" / path.name).read_text())["training"]["candidates"]
        own = yaml.safe_load(path.read_text())["training"].get("candidates", {})
        for name, settings in base.items():
            changed = own.get(name, {})
            merged = settings | {k: v for k, v in changed.items() if k != "settings"}
            merged["settings"] = settings["settings"] | changed.get("settings", {})
            yield pytest.param(merged, id=f"{path.parent.name}-{name}")
            # what tuning may choose for p is another distance
            if "p" in merged["settings"]:
                other = merged | {"settings": merged["settings"] | {"p": 1}}
                yield pytest.param(other, id=f"{path.parent.name}-{name}-p-1")


@pytest.mark.parametrize("settings", list(shipped_candidates()))
def test_every_candidate_that_ships_can_be_loaded_again(settings, labelled_wines):
    import skops.io

    few = {"n_estimators": 5} if "n_estimators" in settings["settings"] else {}
    candidate = Candidate(**settings).with_settings(few)
    model = fit_candidate(candidate, labelled_wines, 0).model
    content = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=content)) <= CANDIDATE_TYPES
    again = load_skops(content, ())
    assert (again.predict(labelled_wines) == model.predict(labelled_wines)).all()


# The registry


@pytest.mark.parametrize("kind", crafted.CRAFTED)
def test_a_crafted_champion_is_refused(registry, saved, marker, kind):
    crafted.swap_skops(saved, crafted.skops_with(crafted.CRAFTED[kind](marker)))
    crafted.register(registry.name, saved)
    with pytest.raises(WineQualityError, match=f"Version 1 of {registry.name} is refused"):
        registry.champion()
    assert not marker.exists()
    assert registry.version(CHAMPION).version == "1"


# ONNX


def onnx_model(initializer=None, domain="", inner=False):
    constant = helper.make_node("Constant", [], ["c"], value=initializer)
    branch = helper.make_graph([constant], "branch", [], [])
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=branch)] if inner else []
    graph = helper.make_graph(
        nodes, "g", [], [], [] if inner or initializer is None else [initializer]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def external():
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return tensor


def test_onnx_of_our_own_passes(trained):
    check_onnx(trained[2])
    check_onnx(onnx_model(numpy_helper.from_array(np.zeros(3), "w")))


@pytest.mark.parametrize("inner", [False, True])
def test_onnx_that_reads_other_files_is_refused(inner):
    with pytest.raises(BrokenVersionError, match="keeps its numbers in other files"):
        check_onnx(onnx_model(external(), inner=inner))


def test_onnx_with_operators_of_others_is_refused():
    with pytest.raises(BrokenVersionError, match=r"operators of com\.microsoft"):
        check_onnx(onnx_model(domain="com.microsoft"))


def test_what_is_no_onnx_is_said():
    with pytest.raises(BrokenVersionError, match="ONNX file cannot be read"):
        check_onnx(b"\xff no model")


# References


def test_a_reference_is_numbers_and_texts(labelled_wines, tmp_path):
    path = tmp_path / "reference.parquet"
    wines = labelled_wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: 5.0})
    wines.to_parquet(path, index=False)
    pd.testing.assert_frame_equal(read_reference(path), wines)
    wines.drop(columns="pH").to_parquet(path, index=False)
    with pytest.raises(BrokenVersionError, match="reference has no pH"):
        read_reference(path)
    wines.assign(more=[{"a": 1}] * len(wines)).to_parquet(path, index=False)
    with pytest.raises(BrokenVersionError, match="more than numbers and texts: more"):
        read_reference(path)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(BrokenVersionError, match="reference cannot be read"):
        read_reference(path)
