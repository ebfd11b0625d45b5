"""From the dataset file to minibatches: files, letterbox, normalization, loading, cached features."""
