"""Converts a fitted model to ONNX, and proves that the two answer alike before it is used.

The file takes two inputs, `type` (text, shape (n, 1)) and `measurements` (float32, shape (n, 11),
canonical order, NaN for what is missing), and gives one output, `prediction` (float32, (n, 1)).

Trees and neighbours are written here, in float64: skl2onnx 1.20 takes up to 40 seconds for a forest
of 100 trees, which it copies node by node, and answers wrongly where neighbours are weighted by
distance. Boosting by XGBoost is converted by onnxmltools, anything else by skl2onnx. The parity
check decides over all of them alike.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wine_quality.modelling.candidate_check import draw_wines_evenly
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    PREDICTION,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
)

if TYPE_CHECKING:
    import onnx
    from sklearn.pipeline import Pipeline as Model

MEASUREMENTS_INPUT = "measurements"
TOLERANCE = 1e-4 * QUALITY_STEP
"""Quality by which the two may differ."""
OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Of the operators that are used; ONNX Runtime 1.14 and later have them."""
XGBOOST_OPSET = 15
"""The newest that onnxmltools 1.16 knows; the operators that it writes are the same in `OPSETS`."""
FLOAT_STEPS = 2.0**23
"""A float32 lies within half of 1/2²³ of its value from the number that was meant."""
EQUAL = 1e-5
"""Standardised units within which two wines are the same; what float32 leaves of alcohol 9.5333333
is 3e-6, and no two wines that differ are as near."""
UNSEEN_SEED = 0
UNSEEN_WINES = 500


class NotConvertibleError(Exception):
    """A model has no ONNX form; the message says why, in a sentence."""


@dataclass(frozen=True)
class OnnxExport:
    """What came of converting a model.

    Attributes:
        content: The ONNX file; None where there is none, or where it must not be used.
        parity: `passed`, `failed`, or `none` where the model could not be converted.
        max_difference: Largest difference from scikit-learn, in points of quality; None without a
            conversion.
        reason: What came of it, in a sentence.
    """

    content: bytes | None
    parity: str
    max_difference: float | None
    reason: str


def export(model: "Model", held_out_wines: pd.DataFrame) -> OnnxExport:
    """Convert a fitted model and hold its answers against scikit-learn's.

    Args:
        model: Fitted pipeline that takes the twelve inputs.
        held_out_wines: Wines to compare the answers for, beside those of `trying_wines`.
    """
    try:
        content = convert(model)
    except NotConvertibleError as error:
        return OnnxExport(None, "none", None, str(error))
    wines = trying_wines(held_out_wines)
    expected = np.asarray(model.predict(wines), dtype=float)
    try:
        answers = run(content, wines)
    # the library has no exception of its own that covers all of its complaints
    except Exception as error:
        reason = f"ONNX Runtime does not run the converted model: {' '.join(str(error).split())}"
        return OnnxExport(None, "failed", float("nan"), reason[:500])
    # what is not a number differs by as much as can be
    difference = np.nan_to_num(np.abs(answers - expected), nan=np.inf)
    largest = float(difference.max(initial=0.0))
    differing = int((difference > TOLERANCE).sum())
    if differing:
        reason = (
            f"the converted model differs from scikit-learn by up to {largest:.2g} points, by more "
            f"than {TOLERANCE:g} for {differing} of {len(wines)} wines"
        )
        return OnnxExport(None, "failed", largest, reason)
    return OnnxExport(content, "passed", largest, f"agrees within {largest:.2g} points")


def trying_wines(held_out_wines: pd.DataFrame) -> pd.DataFrame:
    """Make the wines that the two models have to agree on.

    Args:
        held_out_wines: n wines with the twelve inputs.

    Returns:
        The held-out wines; up to 20 of them once more for each measurement, without it; wines of
        each type without any measurement; and 500 that nobody has seen, drawn evenly from twice
        the plausible range and given as many digits as people write.
    """
    known = held_out_wines[list(INPUTS)].astype(dict.fromkeys(MEASUREMENT_NAMES, float))
    some = known.head(20)
    without = [some.assign(**{name: np.nan}) for name in MEASUREMENT_NAMES]
    empty = pd.DataFrame({TYPE: list(WINE_TYPES)}).assign(
        **dict.fromkeys(MEASUREMENT_NAMES, np.nan)
    )
    unseen = draw_wines_evenly(UNSEEN_WINES, UNSEEN_SEED, reach=2)
    return pd.concat([known, *without, empty[list(INPUTS)], unseen], ignore_index=True)


def run(content: bytes, wines: pd.DataFrame) -> np.ndarray:
    """Predict wines with a converted model in ONNX Runtime.

    Args:
        content: The ONNX file.
        wines: n wines with the twelve inputs.

    Returns:
        Predicted quality, shape (n,).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(
        [PREDICTION],
        {
            TYPE: wines[[TYPE]].to_numpy(dtype=object),
            MEASUREMENTS_INPUT: wines[list(MEASUREMENT_NAMES)].to_numpy(np.float32),
        },
    )
    return np.asarray(answer, dtype=float).ravel()


def convert(model: "Model") -> bytes:
    """Convert a fitted model of `build_model` to ONNX, without checking its answers.

    Args:
        model: Fitted pipeline of the two steps `inputs` and `estimator`.

    Returns:
        The ONNX file.

    Raises:
        NotConvertibleError: An estimator or a step before it has no ONNX form.
    """
    try:
        return _convert(model)
    except NotConvertibleError:
        raise
    # the libraries have no common exception: what they cannot do they say in many ways
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        kind = type(model["estimator"]).__name__
        raise NotConvertibleError(f"{kind} cannot be converted: {why}") from error


def _convert(model: "Model") -> bytes:
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    features = _inputs(graph, model["inputs"])
    answer = _estimator(graph, model["estimator"], features)
    column = graph.add("Reshape", answer, graph.constant(np.array([-1, 1], np.int64)))
    graph.nodes.append(
        helper.make_node("Cast", [column], [PREDICTION], name="prediction", to=TensorProto.FLOAT)
    )
    whole = helper.make_graph(
        graph.nodes,
        "wine_quality",
        [
            helper.make_tensor_value_info(TYPE, TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info(
                MEASUREMENTS_INPUT, TensorProto.FLOAT, [None, len(MEASUREMENT_NAMES)]
            ),
        ],
        [helper.make_tensor_value_info(PREDICTION, TensorProto.FLOAT, [None, 1])],
        graph.initializers,
    )
    proto = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(*opset) for opset in OPSETS.items()],
        producer_name="wine-quality",
        # the version of the file format that goes with these operators
        ir_version=8,
    )
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


@dataclass(frozen=True)
class _Features:
    """What an estimator is given: the same numbers, rounded as trees do, and in full.

    Attributes:
        single: Name of the float32 tensor, shape (n, width).
        double: Name of the float64 tensor, shape (n, width).
        width: Number of columns.
    """

    single: str
    double: str
    width: int


class _Graph:
    """The nodes and constants of a graph that grows."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._count = 0

    def name(self, stem: str) -> str:
        """Return a name that nothing in the graph has yet."""
        self._count += 1
        return f"{stem.lower()}_{self._count}"

    def constant(self, value: np.ndarray) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = self.name("constant")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output; return the output's name."""
        from onnx import helper

        name = self.name(kind)
        self.nodes.append(
            helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        return name

    def cast(self, tensor: str, kind: type[np.generic]) -> str:
        """Add a change of a tensor's type; return the new tensor's name."""
        from onnx import helper

        return self.add("Cast", tensor, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def embed(self, part: "onnx.ModelProto", tensor: str) -> str:
        """Add a whole model of one input; return the name of its first output."""
        from onnx.compose import add_prefix

        prefixed = add_prefix(part, self.name("part") + "_").graph
        (given,) = [value.name for value in prefixed.input]
        for node in prefixed.node:
            node.input[:] = [tensor if name == given else name for name in node.input]
        self.nodes.extend(prefixed.node)
        self.initializers.extend(prefixed.initializer)
        return str(prefixed.output[0].name)


def _inputs(graph: _Graph, inputs: Any) -> _Features:
    """Add what happens to a wine before the estimator: encoding, imputation and scaling."""
    encoder, measured = (
        inputs.named_transformers_["type"],
        inputs.named_transformers_["measurements"],
    )
    # an unknown type is refused, as scikit-learn does
    encoded = graph.add(
        "OneHotEncoder",
        TYPE,
        domain="ai.onnx.ml",
        cats_strings=[str(category) for category in encoder.categories_[0]],
        zeros=0,
    )
    types = len(encoder.categories_[0])
    shape = graph.constant(np.array([-1, types], np.int64))
    one_hot = graph.add("Reshape", encoded, shape)

    imputer, scaler = (measured[0], measured[1]) if hasattr(measured, "steps") else (measured, None)
    # whatever the imputer fills in, also for a measurement that it never saw
    nothing = pd.DataFrame([[np.nan] * len(MEASUREMENT_NAMES)], columns=list(MEASUREMENT_NAMES))
    filling = np.asarray(imputer.transform(nothing), dtype=np.float64)
    missing = graph.add("IsNaN", MEASUREMENTS_INPUT)
    exact = _recover_decimals(graph, graph.cast(MEASUREMENTS_INPUT, np.float64), imputer)
    double = graph.add("Where", missing, graph.constant(filling), exact)
    if scaler is None:
        single = graph.add(
            "Where", missing, graph.constant(filling.astype(np.float32)), MEASUREMENTS_INPUT
        )
    else:
        centred = graph.add("Sub", double, graph.constant(scaler.mean_))
        double = graph.add("Div", centred, graph.constant(scaler.scale_))
        single = graph.cast(double, np.float32)
    return _Features(
        single=graph.add("Concat", one_hot, single, axis=1),
        double=graph.add("Concat", graph.cast(one_hot, np.float64), double, axis=1),
        width=types + len(MEASUREMENT_NAMES),
    )


def _recover_decimals(graph: _Graph, double: str, imputer: Any) -> str:
    """Add the rounding that turns a float32 into the decimal that was written.

    0.9968 as float32 is 0.99680001; in standardised units that is far enough from 0.9968 to choose
    other neighbours. The decimals of a column are as many as a float32 holds for five times its
    mean; a value so large that it holds fewer stays as near as it was.
    """
    mean = np.abs(np.nan_to_num(np.asarray(imputer.statistics_, dtype=float)))
    decimals = np.floor(np.log10(FLOAT_STEPS / np.maximum(5 * mean, 1e-3)))
    step = graph.constant(10.0**decimals)
    return graph.add("Div", graph.add("Round", graph.add("Mul", double, step)), step)


def _estimator(graph: _Graph, estimator: Any, features: _Features) -> str:
    """Add an estimator; return the name of its prediction, of any number type and shape (n, …)."""
    writers: dict[str, Callable[[_Graph, Any, _Features], str]] = {
        "DecisionTreeClassifier": _trees,
        "DecisionTreeRegressor": _trees,
        "ExtraTreesClassifier": _trees,
        "ExtraTreesRegressor": _trees,
        "RandomForestClassifier": _trees,
        "RandomForestRegressor": _trees,
        "KNeighborsRegressor": _neighbours,
    }
    ours = writers if _family(estimator) == "sklearn" else {}
    return ours.get(type(estimator).__name__, _by_library)(graph, estimator, features)


def _family(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _by_library(graph: _Graph, estimator: Any, features: _Features) -> str:
    if _family(estimator) == "xgboost":
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType as XgboostFloats

        given = [("x", XgboostFloats([None, features.width]))]
        part = convert_xgboost(estimator, initial_types=given, target_opset=XGBOOST_OPSET)
    else:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        inputs = [("x", FloatTensorType([None, features.width]))]
        # of classes their label is wanted, not a dictionary of probabilities
        plain = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
        part = to_onnx(estimator, initial_types=inputs, target_opset=OPSETS, options=plain)
    return graph.embed(part, features.single)


def _trees(graph: _Graph, estimator: Any, features: _Features) -> str:
    """Add a tree, or the mean of a forest; of classes, the likeliest.

    scikit-learn compares inputs rounded to float32 with float64 thresholds, and so does this: the
    operator computes in float64 where its input is float64.
    """
    from onnx import numpy_helper

    trees = [tree.tree_ for tree in getattr(estimator, "estimators_", [estimator])]
    classes = getattr(estimator, "classes_", None)
    sizes = [tree.node_count for tree in trees]

    def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(parts))

    tree_of = np.repeat(np.arange(len(trees)), sizes)
    node_of = joined(np.arange(size) for size in sizes)
    left = joined(tree.children_left for tree in trees)
    is_leaf = left < 0
    # of a classifier's leaf, the share of each class; of a regressor's, the mean quality
    leaves = joined(tree.value[:, 0, :] for tree in trees)[is_leaf]
    if classes is not None:
        leaves = leaves / leaves.sum(axis=1, keepdims=True)
    leaf, target = np.nonzero(leaves)
    answer = graph.add(
        "TreeEnsembleRegressor",
        graph.cast(features.single, np.float64),
        domain="ai.onnx.ml",
        aggregate_function="AVERAGE",
        n_targets=leaves.shape[1],
        nodes_treeids=tree_of.tolist(),
        nodes_nodeids=node_of.tolist(),
        nodes_featureids=np.where(is_leaf, 0, joined(t.feature for t in trees)).tolist(),
        nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(is_leaf, 0, left).tolist(),
        nodes_falsenodeids=np.where(is_leaf, 0, joined(t.children_right for t in trees)).tolist(),
        nodes_values_as_tensor=numpy_helper.from_array(
            np.where(is_leaf, 0.0, joined(t.threshold for t in trees))
        ),
        target_treeids=tree_of[is_leaf][leaf].tolist(),
        target_nodeids=node_of[is_leaf][leaf].tolist(),
        target_ids=target.tolist(),
        target_weights_as_tensor=numpy_helper.from_array(leaves[leaf, target]),
    )
    if classes is None:
        return answer
    likeliest = graph.add("ArgMax", answer, axis=1, keepdims=0)
    return graph.add("Gather", graph.constant(np.asarray(classes, np.float64)), likeliest)


def _squared_distances(graph: _Graph, x: str, points: np.ndarray) -> str:
    """Add squared distances to m points, shape (n, m): |x|² - 2 x·p + |p|²."""
    axis = graph.constant(np.array([1], np.int64))
    own = graph.add("ReduceSum", graph.add("Mul", x, x), axis)
    product = graph.add("MatMul", x, graph.constant(-2 * points.T))
    distances = graph.add("Add", graph.add("Add", product, own), graph.constant((points**2).sum(1)))
    return graph.add("Max", distances, graph.constant(np.array(0.0)))


def _neighbours(graph: _Graph, estimator: Any, features: _Features) -> str:
    """Add the mean quality of the nearest wines, by distance or evenly."""
    from onnx import helper

    if estimator.effective_metric_ != "euclidean" or estimator.weights not in (
        "uniform",
        "distance",
    ):
        raise NotConvertibleError(
            f"KNeighborsRegressor with metric {estimator.effective_metric_} and weights "
            f"{estimator.weights} cannot be converted: only euclidean distances and the weights "
            "uniform and distance can"
        )
    points = np.asarray(estimator._fit_X, dtype=np.float64)
    rough = _squared_distances(graph, features.double, points)
    number = graph.constant(np.array([estimator.n_neighbors], np.int64))
    values, nearest = graph.name("topk"), graph.name("topk")
    graph.nodes.append(
        helper.make_node("TopK", [rough, number], [values, nearest], axis=1, largest=0)
    )
    quality = graph.constant(np.asarray(estimator._y, dtype=np.float64).ravel())
    of_neighbours = graph.add("Gather", quality, nearest)
    last = graph.constant(np.array([-1], np.int64))
    if estimator.weights == "uniform":
        return graph.add("ReduceMean", of_neighbours, last)
    # once more by differences, which are exact where wines are equal: those alone count then
    beside = graph.add("Unsqueeze", features.double, graph.constant(np.array([1], np.int64)))
    apart = graph.add("Sub", graph.add("Gather", graph.constant(points), nearest), beside)
    squared = graph.add("ReduceSum", graph.add("Mul", apart, apart), last, keepdims=0)
    distance = graph.add("Sqrt", squared)
    zero = graph.constant(np.array(0.0))
    equal = graph.add("Less", distance, graph.constant(np.array(EQUAL)))
    as_number = graph.cast(equal, np.float64)
    any_equal = graph.add("Greater", graph.add("ReduceMax", as_number, last), zero)
    inverse = graph.add("Reciprocal", distance)
    weights = graph.add("Where", any_equal, as_number, inverse)
    total = graph.add("ReduceSum", graph.add("Mul", weights, of_neighbours), last)
    return graph.add("Div", total, graph.add("ReduceSum", weights, last))
