"""Source addresses → raw files with verified content."""

from kedro.pipeline import Node, Pipeline

from wine_quality.pipelines.download import nodes


def create_pipeline() -> Pipeline:
    """Build the download pipeline."""
    return Pipeline(
        [Node(nodes.fetch_raw_files, "params:download", "fetched_files")],
        namespace="download",
        prefix_datasets_with_namespace=False,
    )
