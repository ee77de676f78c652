"""What the stages of a run share: its folder, parts, models, processes, time, and what is said."""
