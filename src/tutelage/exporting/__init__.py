"""What leaves a run: a student as a folder that any tool loads, on the disk or on a hub."""
