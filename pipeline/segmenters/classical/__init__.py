"""A segmenter without a learned checkpoint: features made by hand, learning on the prompted frames alone."""

from pipeline.segmenters.classical.segmenter import ClassicalSegmenter

__all__ = ["ClassicalSegmenter"]
