"""PANNs: CNN14 trained on AudioSet (Kong et al. 2020)."""
