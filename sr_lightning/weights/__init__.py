"""Weight files with their records."""
