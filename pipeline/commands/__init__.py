"""The command line. One module per family of verbs; nothing here imports torch or numpy at load."""
