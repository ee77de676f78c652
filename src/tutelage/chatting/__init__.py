"""Talking to a student beside its teacher."""
