"""Model weights. Empty as long as every method works without a download."""
