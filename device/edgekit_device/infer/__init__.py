"""The one place that imports an interpreter, and what is known about models before one is made."""
