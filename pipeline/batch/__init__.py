"""`ivos segment`: the prompts file, one run over a whole video, the folder it writes and its summary.

May use `pipeline.session`, `pipeline.methods` and `pipeline.cli`; no web, no Label Studio.
"""
