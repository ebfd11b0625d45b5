"""Everything that draws, by subject; no number is measured here."""
