"""Who may say what runs on a board: signing keys."""
