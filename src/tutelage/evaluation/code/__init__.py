"""Programs as answers: what of an answer is the program, and whether it passes its tests."""
