"""One cell from spec to report: the order of its stages, and everything that decides its numbers."""
