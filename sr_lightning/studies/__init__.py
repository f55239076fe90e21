"""Published numbers, ablations, tables."""
