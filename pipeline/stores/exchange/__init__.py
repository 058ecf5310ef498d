"""Out to other people's formats, and in from them."""
