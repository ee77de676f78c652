"""Settings of other tools as a recipe: ``tables`` has each of them beside ours, as data."""
