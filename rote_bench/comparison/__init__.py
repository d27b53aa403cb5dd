"""A published comparison: its rules, its tuning, and the choice of a recipe for every model."""
