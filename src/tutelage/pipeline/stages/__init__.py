"""The stages of a run, each named by what it makes; ``pipeline.run`` has them in their order."""
