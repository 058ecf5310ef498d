"""OpenL3: audio embeddings learnt from the correspondence of sound and image (Cramer et al. 2019)."""
