"""Stage `source`: says where the pictures come from, before `ingest` reads them."""
