"""Studies: arms x factors x seeds at equal cost, search, and what their numbers can tell."""
