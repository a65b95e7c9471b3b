"""The loop: labelled traffic as data, and when a model is trained again, replaced and taken back.

It knows nothing of Kedro.
"""
