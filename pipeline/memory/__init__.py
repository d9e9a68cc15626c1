"""What a method remembers of earlier frames: I-PT's memory bank, IDPro's shared memory, and policies of what stays.

Tensors in, tensors out: modules here know segmenters' embeddings, but no video, session or method.
"""
