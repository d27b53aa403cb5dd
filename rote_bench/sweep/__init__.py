"""Many cells from one file: what they are, who runs them, and what became of each."""
