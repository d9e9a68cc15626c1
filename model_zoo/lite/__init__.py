"""The small segmentation network whose weights come with the package: see MODEL_CARD.md."""
