"""Model files that run a command when they are loaded as MLflow and skops would: `touch MARKER`."""

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import mlflow
import yaml
from mlflow import MlflowClient

Part = dict[str, Any]


class Touches:
    """What a pickle of it does when it is opened: make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def text(value: str) -> Part:
    content = json.dumps(value)
    return {
        "__class__": "str", "__module__": "builtins", "__loader__": "JsonNode",
        "content": content, "is_json": True,
    }  # fmt: skip


def sequence(kind: str, name: str, *parts: Part, module: str = "builtins") -> Part:
    return {
        "__class__": name, "__module__": module, "__loader__": kind, "content": list(parts)
    }  # fmt: skip


def command(marker: Path) -> list[Part]:
    return [text("/bin/touch"), text(str(marker))]


def constructor(marker: Path) -> Part:
    arguments = sequence("TupleNode", "tuple", sequence("ListNode", "list", *command(marker)))
    return {
        "__class__": "Popen", "__module__": "subprocess",
        "__loader__": "ConstructorFromReduceNode", "content": arguments,
    }  # fmt: skip


def list_of_another_type(marker: Path) -> Part:
    return sequence("ListNode", "Popen", *command(marker), module="subprocess")


def dict_with_a_function_for_a_key(marker: Path) -> Part:
    function = {"__class__": "system", "__module__": "posix", "__loader__": "FunctionNode"}
    return {
        "__class__": "dict", "__module__": "builtins", "__loader__": "DictNode",
        "key_types": sequence("ListNode", "list", function),
        "content": {f"/bin/touch {marker}": text("")},
    }  # fmt: skip


def loss_of_another_type(marker: Path) -> Part:
    arguments = sequence("TupleNode", "tuple", sequence("ListNode", "list", *command(marker)))
    nothing = {
        "__class__": "dict", "__module__": "builtins", "__loader__": "DictNode",
        "key_types": sequence("ListNode", "list"), "content": {},
    }  # fmt: skip
    return {
        "__class__": "Popen", "__module__": "subprocess", "__loader__": "LossNode",
        "__reduce__": {"args": arguments}, "content": nothing,
    }  # fmt: skip


CRAFTED: Mapping[str, Callable[[Path], Part]] = {
    "a constructor": constructor,
    "a list of another type": list_of_another_type,
    "a function for a key": dict_with_a_function_for_a_key,
    "a loss of another type": loss_of_another_type,
}
"""By what it is, the part of a skops file that runs the command."""


def skops_with(part: Part, protocol: int = 2) -> bytes:
    """Write a skops file that consists of one part."""
    import skops

    content = io.BytesIO()
    schema = {**part, "protocol": protocol, "_skops_version": skops.__version__}
    with ZipFile(content, "w") as parts:
        parts.writestr("schema.json", json.dumps(schema))
    return content.getvalue()


def save_model(model: Any, folder: Path, **options: Any) -> Path:
    """Save a model as MLflow does, with the trusted types that it needs."""
    import skops.io

    types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    mlflow.sklearn.save_model(
        model, folder, pip_requirements=[], **{"skops_trusted_types": types, **options}
    )
    return folder


def swap_skops(folder: Path, content: bytes) -> None:
    """Put another file in the place of `model.skops`, and trust its types in `MLmodel`."""
    import skops.io

    (folder / "model.skops").write_bytes(content)

    def trust(description: Part) -> None:
        types = skops.io.get_untrusted_types(data=content)
        description["flavors"]["sklearn"]["skops_trusted_types"] = types

    describe(folder, trust)


def describe(folder: Path, change: Callable[[Part], None]) -> None:
    """Change a saved model's `MLmodel`."""
    path = folder / "MLmodel"
    description = yaml.safe_load(path.read_text())
    change(description)
    path.write_text(yaml.safe_dump(description))


def pickle_beside(folder: Path, marker: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Touches(marker)))


def register(name: str, folder: Path) -> str:
    """Register a saved model as a version without tags, and make it champion; gives its number."""
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = str(client.create_model_version(name, source=folder.as_uri()).version)
    client.set_registered_model_alias(name, "champion", version)
    return version
