"""Calls to Label Studio and media servers: REST, tokens, connections, frames, repairs of saved annotations.

Uses the protocol and sessions; nothing here serves requests.
"""
