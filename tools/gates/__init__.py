"""The long reliability gates, one module each, with ``run(arguments) -> dict``."""
