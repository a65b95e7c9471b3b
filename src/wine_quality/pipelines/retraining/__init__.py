"""The retraining pipeline."""
