"""The one way a registered version's files are opened: nothing in them runs code.

A registry is written to by others than those who load from it, so a version's own word on what may
be trusted counts for nothing: the types that loading may construct stand here, and in a team's
configuration. All else is refused before it is opened.
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model

SKOPS_FILE = "model.skops"
CANDIDATE_TYPES = frozenset(
    {
        "numpy.dtype",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBRegressor",
    }
)
"""Types in the models of the candidates that ship, beside those that skops trusts by itself
(numbers, texts, containers, NumPy's types and scikit-learn's estimators)."""
HOW_TO_TRUST = (
    "name them in trusted_types of globals.yml (for the service: in WINE_QUALITY_TRUSTED_TYPES)"
)

_DESCRIPTIONS = (".json", ".md", ".txt", ".yaml", ".yml")
_NODE_TYPES: dict[str, tuple[str, ...]] = {
    "BytearrayNode": ("builtins.bytearray",),
    "BytesNode": ("builtins.bytes",),
    "DTypeNode": ("numpy.dtype",),
    "DefaultDictNode": ("collections.defaultdict",),
    "DictNode": ("builtins.dict", "collections.OrderedDict"),
    "JsonNode": ("",),
    "ListNode": ("builtins.list",),
    "LossNode": ("sklearn._loss.", "sklearn.linear_model._sgd_fast."),
    "MaskedArrayNode": ("numpy.ma.",),
    "NdArrayNode": ("numpy.",),
    "RandomGeneratorNode": ("numpy.random.",),
    "RandomStateNode": ("numpy.random.",),
    "SetNode": ("builtins.set",),
    "SliceNode": ("builtins.slice",),
    "SparseMatrixNode": ("scipy.sparse.",),
    "TreeNode": ("sklearn.tree._tree.Tree",),
    "TupleNode": ("builtins.tuple",),
    "TypeNode": ("builtins.", "numpy."),
    # these two are of any type that is trusted by name
    "FunctionNode": ("",),
    "ObjectNode": ("",),
}
"""The kinds of parts that a skops file may consist of, and how their types' names begin.

skops compares each part's type with the trusted ones, but some kinds then call it with arguments of
the file's choice: those that exist for that (methods, partials, operators, constructors) are not
listed, and of the others each keeps to the types that it is made for."""
_ONNX_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_TENSOR = "onnx.TensorProto"


class BrokenVersionError(WineQualityError):
    """A registered version that must not be loaded, or must not answer."""


def load_model(folder: Path, trusted_types: Collection[str], digest: str | None) -> "Model":
    """Load a model that MLflow saved as skops.

    Args:
        folder: What MLflow saved: `MLmodel`, `model.skops` and descriptions.
        trusted_types: A team's own types, beside `CANDIDATE_TYPES`.
        digest: SHA-256 that the registry has of `model.skops`; None where it has none.

    Raises:
        BrokenVersionError: Something in the folder could run code, is of a type that is not
            trusted, or is not what was registered. Nothing of it has run.
    """
    _check_description(folder / "MLmodel", trusted_types)
    _check_files(folder)
    content = (folder / SKOPS_FILE).read_bytes()
    check_digest(content, digest, SKOPS_FILE)
    return load_skops(content, trusted_types)


def load_skops(content: bytes, trusted_types: Collection[str]) -> "Model":
    """Load a model from a skops file.

    Raises:
        BrokenVersionError: It is no such file, is not made of trusted types alone, or cannot be
            loaded.
    """
    import skops.io

    untrusted = find_untrusted_types(content, trusted_types)
    if untrusted:
        raise BrokenVersionError(_about_types(untrusted))
    try:
        # skops compares all types with these once more, before it makes the first object
        model: Model = skops.io.loads(content, trusted=sorted(CANDIDATE_TYPES.union(trusted_types)))
    # a file of trusted types alone may still be of another release, or make no sense
    except Exception as error:
        raise BrokenVersionError(
            f"its {SKOPS_FILE} cannot be loaded ({type(error).__name__}: {error}): promote another "
            "version"
        ) from error
    return model


def find_untrusted_types(content: bytes, trusted_types: Collection[str]) -> list[str]:
    """List the types in a skops file that nobody has allowed; constructs nothing.

    Args:
        content: The file.
        trusted_types: A team's own types, beside `CANDIDATE_TYPES`.

    Raises:
        BrokenVersionError: It is no skops file, or has parts that call what the file names.
    """
    import skops.io

    try:
        with ZipFile(io.BytesIO(content)) as parts:
            schema = json.loads(parts.read("schema.json"))
        for kind, name in _nodes(schema):
            if not name.startswith(_NODE_TYPES.get(kind, ())):
                raise BrokenVersionError(
                    f"its {SKOPS_FILE} has a part of kind {kind} and type {name}, and loading "
                    "that could run code: promote another version"
                )
        found = skops.io.get_untrusted_types(data=content)
    except (BadZipFile, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BrokenVersionError(f"its {SKOPS_FILE} cannot be read ({error})") from error
    return sorted(set(found) - CANDIDATE_TYPES.union(trusted_types))


def trusted_in(model: Any, trusted_types: Collection[str]) -> list[str]:
    """List the types in a model that skops does not trust by itself.

    Args:
        model: The model.
        trusted_types: A team's own types.

    Raises:
        WineQualityError: The model could not be loaded again: it holds a type that nobody named.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        content = skops.io.dumps(model)
    except UnsupportedTypeException as error:
        raise WineQualityError(
            f"{type(model[-1]).__name__} cannot be registered: skops does not save it ({error})."
        ) from error
    untrusted = find_untrusted_types(content, trusted_types)
    if untrusted:
        raise WineQualityError(
            f"{type(model[-1]).__name__} holds types that nobody has allowed "
            f"({', '.join(untrusted)}), so that no version of it would be loaded: {HOW_TO_TRUST}."
        )
    named: list[str] = skops.io.get_untrusted_types(data=content)
    return named


def check_digest(content: bytes, expected: str | None, file: str) -> bool:
    """Compare a file with the registry's digest of it.

    Returns:
        Whether there is a digest to compare it with; the first versions have none.

    Raises:
        BrokenVersionError: The file is another.
    """
    if expected is None:
        return False
    if hashlib.sha256(content).hexdigest() != expected:
        raise BrokenVersionError(
            f"the digest of its file {file} is not the registry's; somebody changed the file"
        )
    return True


def check_onnx(content: bytes) -> None:
    """Refuse an ONNX file that reads other files, or uses operators that are not ONNX's own.

    Raises:
        BrokenVersionError: It is no ONNX file, or one of these.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise BrokenVersionError(f"its ONNX file cannot be read ({error})") from error
    others = {opset.domain for opset in model.opset_import} - _ONNX_DOMAINS
    if others:
        raise BrokenVersionError(
            f"its ONNX file uses operators of {', '.join(sorted(others))}, which are not ONNX's own"
        )
    if any(tensor.data_location or tensor.external_data for tensor in _tensors(model)):
        raise BrokenVersionError("its ONNX file keeps its numbers in other files, and reads those")


def read_reference(path: Path) -> pd.DataFrame:
    """Read the held-out wines that a version was registered with.

    Raises:
        BrokenVersionError: The file is no table of wines with predictions.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        missing = [name for name in (*INPUTS, QUALITY, PREDICTION) if name not in schema.names]
        if missing:
            raise BrokenVersionError(f"its reference has no {', '.join(missing)}")
        odd = [name for name in schema.names if not _is_plain(schema.field(name).type)]
        if odd:
            raise BrokenVersionError(f"its reference holds more than numbers and texts: {odd[0]}")
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BrokenVersionError(f"its reference cannot be read ({error})") from error


def read_fitted_wines(path: Path) -> NDArray[np.uint64]:
    """Read the hashes of the wines that a version was fitted on.

    Raises:
        BrokenVersionError: The file holds anything else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BrokenVersionError(f"its list of fitted wines cannot be read ({error})") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.uint64 or found.ndim != 1:
        raise BrokenVersionError("its list of fitted wines holds something else")
    return found


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    texts = types.is_string(kind) or types.is_large_string(kind)
    return bool(texts or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind))


def _about_types(untrusted: Sequence[str]) -> str:
    return (
        f"it holds types that are not trusted ({', '.join(untrusted)}): promote another version, "
        f"or, if they are your team's own, {HOW_TO_TRUST}"
    )


def _check_description(path: Path, trusted_types: Collection[str]) -> None:
    """See that MLflow would load `model.skops`, and nothing else, by code of its own."""
    import yaml

    if not path.exists():
        raise BrokenVersionError(
            "its files are not where the registry says: put them back, or promote another version"
        )
    try:
        description = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavors = dict(description["flavors"])
        sklearn, python = dict(flavors["sklearn"]), dict(flavors.get("python_function", {}))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BrokenVersionError(
            f"its MLmodel describes no scikit-learn model ({type(error).__name__}: {error})"
        ) from error
    saved_as = sklearn.get("serialization_format", "cloudpickle")
    if saved_as != "skops":
        raise BrokenVersionError(
            f"it was saved as {saved_as}, which runs code when it is loaded: save it as skops"
        )
    others = flavors.keys() - {"sklearn", "python_function"}
    if others:
        raise BrokenVersionError(f"it has the flavour {min(others)}, which is not loaded here")
    if sklearn.get("code") or python.get("code"):
        raise BrokenVersionError(
            "it brings code of its own (code_paths), which is not run here: install that code as "
            "a package beside wine_quality"
        )
    named = {sklearn.get("pickled_model"), python.get("model_path", SKOPS_FILE)}
    if named != {SKOPS_FILE} or python.get("loader_module", "mlflow.sklearn") != "mlflow.sklearn":
        raise BrokenVersionError(f"its MLmodel names another file or loader than {SKOPS_FILE}'s")
    types = map(str, sklearn.get("skops_trusted_types") or ())
    untrusted = sorted(set(types) - CANDIDATE_TYPES.union(trusted_types))
    if untrusted:
        raise BrokenVersionError(_about_types(untrusted))


def _check_files(folder: Path) -> None:
    """Refuse files beside the model that are no descriptions: a pickle, a module, a library."""
    known = {"MLmodel", SKOPS_FILE, "registered_model_meta"}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (name not in known and path.suffix not in _DESCRIPTIONS):
            raise BrokenVersionError(
                f"beside its {SKOPS_FILE} lies {name}, which could run code: register it without"
            )
    if not (folder / SKOPS_FILE).is_file():
        raise BrokenVersionError(f"it has no {SKOPS_FILE}, and other formats run code")


def _nodes(schema: Any) -> Iterator[tuple[str, str]]:
    """Go through the parts of a skops file: each one's kind and the name of its type."""
    if isinstance(schema, dict):
        if "__loader__" in schema:
            yield str(schema["__loader__"]), f"{schema['__module__']}.{schema['__class__']}"
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _nodes(part)


def _tensors(message: Any) -> Iterator[Any]:
    """Go through the tensors of an ONNX file, in graphs within graphs and in functions too."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.full_name == _TENSOR:
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)
