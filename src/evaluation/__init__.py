"""How well it does: point-wise and detection metrics, error analysis."""
