"""Suites, one file each; ``table.py`` has the row of each."""
