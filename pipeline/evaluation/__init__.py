"""Measuring methods on clips with ground truth: `ivos bench` with its sub-commands, `ivos calibrate`.

Rounds of a simulated annotator live here. Each further benchmark has a package: `speed`, `long`, `memory`, `zivos`.
May use everything of `pipeline` and `model_zoo`; only commands import it.
"""
