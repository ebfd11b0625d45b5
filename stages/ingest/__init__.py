"""Stage `ingest`: any source's pictures into one dataset file, with counts and a sheet of samples (section 2)."""
