"""What makes docs/results/, one module each, with ``run(arguments) -> None``."""
