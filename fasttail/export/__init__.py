"""A run's classifier as one file for use elsewhere, and predictions for images."""
