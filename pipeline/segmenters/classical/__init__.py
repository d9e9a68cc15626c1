"""The segmenter without learned weights: hand-made features, and a small network trained on the prompted frames.

README.md describes the whole method. These files may import what `pipeline.segmenters` may.
"""

from pipeline.segmenters.classical.segmenter import ClassicalSegmenter

__all__ = ["ClassicalSegmenter"]
