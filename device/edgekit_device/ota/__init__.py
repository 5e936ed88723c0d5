"""Updates over the air, on the board: fetch what `desired` names, prove that it is fresh, hand it to the slots."""
