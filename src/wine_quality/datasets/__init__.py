"""The Kedro datasets that no library offers."""

from wine_quality.datasets.artifacts import FigureArtifactDataset, TextArtifactDataset
from wine_quality.datasets.candidate_scores import CandidateScoresDataset
from wine_quality.datasets.evidently_workspace import EvidentlyWorkspaceDataset
from wine_quality.datasets.inference_log import (
    InferenceLogConnection,
    InferenceLogDataset,
    LakeLogDataset,
)
from wine_quality.datasets.labelled_traffic import LabelledTrafficDataset
from wine_quality.datasets.metrics import MetricsDataset
from wine_quality.datasets.monitoring import (
    AcceptanceStoreDataset,
    DecisionStoreDataset,
    IncidentStoreDataset,
    ProfileStoreDataset,
    VerdictHistoryDataset,
)
from wine_quality.datasets.optional_json import OptionalJSONDataset
from wine_quality.datasets.parquet_stream import ParquetStreamDataset
from wine_quality.datasets.raw_wines import RawWinesDataset
from wine_quality.datasets.registry import (
    ChampionDataset,
    ModelRegistryDataset,
    ModelVersionDataset,
    ReferencesDataset,
)
from wine_quality.datasets.tuning import StudyDataset

__all__ = [
    "AcceptanceStoreDataset",
    "CandidateScoresDataset",
    "ChampionDataset",
    "DecisionStoreDataset",
    "EvidentlyWorkspaceDataset",
    "FigureArtifactDataset",
    "IncidentStoreDataset",
    "InferenceLogConnection",
    "InferenceLogDataset",
    "LabelledTrafficDataset",
    "LakeLogDataset",
    "MetricsDataset",
    "ModelRegistryDataset",
    "ModelVersionDataset",
    "OptionalJSONDataset",
    "ParquetStreamDataset",
    "ProfileStoreDataset",
    "RawWinesDataset",
    "ReferencesDataset",
    "StudyDataset",
    "TextArtifactDataset",
    "VerdictHistoryDataset",
]
