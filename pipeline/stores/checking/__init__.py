"""Whether a store is what it says: every byte, every number; and two stores against each other."""
