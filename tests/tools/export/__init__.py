"""The exported detector beside the pipeline's."""
