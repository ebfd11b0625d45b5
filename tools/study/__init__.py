"""Studies: a question, the settings that are varied for it, and the seeds over which each is repeated."""
