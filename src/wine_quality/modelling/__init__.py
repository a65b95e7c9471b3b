"""Candidates, metrics, evaluation and the registry; knows nothing of Kedro."""
