"""The commands `ivos segment` and `ivos models`, and what all commands share: options, messages, progress, Ctrl-C.

Mounted by `ls_backend.cli`; the work is done in `pipeline.batch`, `pipeline.streaming` and `model_zoo`.
"""
