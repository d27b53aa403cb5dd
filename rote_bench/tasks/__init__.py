"""Tasks: what an example is, and the generators that come along."""
