"""Label Studio's JSON <-> our types: requests, labelling config, prompts, brush regions and their run lengths.

Imports errors, `pipeline.types` and pure helpers; never torch, HTTP or a session.
"""
