"""Measuring: DAVIS' metrics, a simulated annotator, and the runner behind `ivos bench`."""
