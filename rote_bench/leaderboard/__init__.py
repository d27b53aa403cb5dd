"""Reports become a leaderboard: each is checked, seeds are brought together, models are ranked, tables are written."""
