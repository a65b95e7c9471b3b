"""What is checked before the first node of a run: all that would otherwise end it later."""

from collections.abc import Collection

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from wine_quality.pipelines.parameters import ProjectParameters

CANDIDATES = "params:training.candidates."


def check_before_run(
    pipeline: Pipeline,
    catalog: "CatalogProtocol",  # type: ignore[type-arg]
    parameters: ProjectParameters,
    trusted_types: Collection[str],
) -> None:
    """Try what the nodes of a run will use.

    Args:
        pipeline: What is run.
        catalog: The datasets of the run; those with a method `check_before_run` are asked as well.
        parameters: The parameters of the run.
        trusted_types: A team's own types that a registered model may hold.

    Raises:
        WineQualityError: A candidate cannot be fitted or registered, there is no such backend, or
            something is not installed.
    """
    candidates = [name for name in pipeline.inputs() if name.startswith(CANDIDATES)]
    if candidates:
        from wine_quality.modelling.candidate_check import check_candidate

        for name in sorted(candidates):
            candidate = parameters.training.candidates[name.removeprefix(CANDIDATES)]
            check_candidate(candidate, parameters.training.comparison.seed, trusted_types)
    if "backend" in pipeline.all_outputs():
        from wine_quality.traffic.backends import check_backend

        backend = parameters.serving_simulation.backend
        check_backend(backend.name, backend.all_settings())
    for name in sorted(pipeline.datasets()):
        check = getattr(catalog.get(name), "check_before_run", None)
        if check is not None:
            check()
