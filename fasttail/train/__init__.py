"""Stage 1: learning a representation."""
