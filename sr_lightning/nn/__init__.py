"""Layers that two or more networks share, and the contract of all networks."""
