"""Measures how good a network is: accuracies on clips and on streams, panels of its masks, and the report of a run."""
