"""Predictions for any video, and where the model looks."""
