"""Answering predictions and losing none: identifiers, the predictor, the inference log."""
