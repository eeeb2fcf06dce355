"""From a model to the numbers of the paper's tables."""
