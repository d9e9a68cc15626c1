"""The segmenter whose weights come with the package: a small network on crops, and keys of its trunk as memory."""
