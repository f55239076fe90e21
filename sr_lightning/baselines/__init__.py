"""The compared networks, one file each."""
