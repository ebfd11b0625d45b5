"""The trained detector outside the pipeline: a `torch.export` program, ONNX, an example that runs it, a model card."""
