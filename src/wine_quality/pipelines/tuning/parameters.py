"""Parameters of the tuning pipeline."""

from wine_quality.modelling.tuning import Budget, SearchSettings
from wine_quality.parameters import Parameters


class TuningParameters(Parameters):
    """Parameters of the tuning pipeline."""

    search: SearchSettings
    quick: Budget
    long: Budget
