"""What is wrong with a board and the command that mends it; what runs on it; which rungs its model is proved on."""
