"""Where pictures come from; only `ingest` and `predict` know them."""
