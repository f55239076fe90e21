"""One package per paper: network, training, card."""
