"""`ivos segment`: the prompts file, one run over a whole video, the folder it writes and its summary.

Uses `pipeline.session`; no web, no Label Studio.
"""
