"""Two-stage instance segmentation, hand-built: data, operators, models, training, evaluation, reporting."""
