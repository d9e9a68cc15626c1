"""A model with segment-anything's interface that needs no weights, and small videos whose true masks are known.

So everything around a promptable segmenter can be tested in milliseconds a frame: `model` is the model, `scenes` the
videos, `methods` puts both together with the project's methods.
"""
