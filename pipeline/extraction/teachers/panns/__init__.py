"""PANNs: networks trained on AudioSet (Kong et al. 2020), and a pruned one (Singh et al. 2023)."""
