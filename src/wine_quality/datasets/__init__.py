"""The Kedro datasets that no library offers."""

from wine_quality.datasets.candidate_scores import CandidateScoresDataset
from wine_quality.datasets.inference_log import InferenceLogConnection, InferenceLogDataset
from wine_quality.datasets.metrics import MetricsDataset
from wine_quality.datasets.optional_json import OptionalJSONDataset
from wine_quality.datasets.raw_wines import RawWinesDataset
from wine_quality.datasets.registry import (
    ChampionDataset,
    ModelVersionDataset,
    PreviousChampionDataset,
    ReferencesDataset,
)
from wine_quality.datasets.tuning import StudyDataset

__all__ = [
    "CandidateScoresDataset",
    "ChampionDataset",
    "InferenceLogConnection",
    "InferenceLogDataset",
    "MetricsDataset",
    "ModelVersionDataset",
    "OptionalJSONDataset",
    "PreviousChampionDataset",
    "RawWinesDataset",
    "ReferencesDataset",
    "StudyDataset",
]
