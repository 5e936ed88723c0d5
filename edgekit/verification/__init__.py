"""Does the file do what it should: structure, agreement with the float model, limits. Numbers in, verdict out."""
