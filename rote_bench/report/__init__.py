"""Reports: their schema, how they are written, read, shown and drawn."""
