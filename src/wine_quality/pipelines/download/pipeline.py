"""Source addresses → raw files with verified content."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.download import nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the download pipeline."""
    return Pipeline(
        [step(nodes.fetch_raw_files, "params:download", "fetched_files")],
        namespace="download",
        prefix_datasets_with_namespace=False,
    )
