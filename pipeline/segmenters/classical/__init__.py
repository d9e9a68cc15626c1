"""The segmenter without learned weights: hand-made features, and a small network trained on the prompted frames.

README.md tells the whole recipe. These files may use `pipeline.segmenters.base`, `pipeline.types` and `pipeline.masks`.
"""

from pipeline.segmenters.classical.segmenter import ClassicalSegmenter

__all__ = ["ClassicalSegmenter"]
