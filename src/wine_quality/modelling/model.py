"""What a model is to all that does not build one; nothing of scikit-learn is imported for it."""

from typing import Any, Protocol

import pandas as pd


class Model(Protocol):
    """What can predict: a scikit-learn pipeline, an MLflow model, anything alike."""

    def predict(self, wines: pd.DataFrame, /) -> Any:
        """Predict the quality of n wines given by their twelve inputs; shape (n,)."""
