"""Published models: which there are, how their files come to this machine, and how networks are built from them.

The lowest layer: it imports neither `pipeline` nor `ls_backend`.
"""
