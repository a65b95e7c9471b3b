"""How the pipelines make their nodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kedro.pipeline import Node

Names = str | Sequence[str] | Mapping[str, str]


def step(function: Callable[..., Any], inputs: Names, outputs: Names) -> Node:
    """Make a node that bears its function's name.

    Kedro would add a hash to it, with which no one can ask for the node in `--nodes`.

    Args:
        function: What the node does.
        inputs: Datasets by position, or by argument.
        outputs: Datasets that take what the function returns.
    """
    return Node(function, inputs, outputs, name=function.__name__)  # type: ignore[arg-type]
