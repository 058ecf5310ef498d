"""MusiCNN: musically motivated convolutions (Pons et al. 2018), trained on MagnaTagATune or MSD tags."""
