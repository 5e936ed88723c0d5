"""Run by people, never imported by the packages."""
