"""What an annotator's session is: prompts, editor state, rounds, and the repository that finds, keeps and stores them.

Uses the protocol, the store and `pipeline.session`; knows nothing of HTTP.
"""
