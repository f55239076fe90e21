"""One room per paper: network, training, card."""
