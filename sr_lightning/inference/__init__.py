"""Using a network: tiles, self-ensemble, photographs."""
