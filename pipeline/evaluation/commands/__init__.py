"""`ivos bench` and `ivos calibrate`: options, progress and tables.

The measuring itself is in `pipeline.evaluation`.
"""
