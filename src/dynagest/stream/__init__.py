"""Recognises gestures in streams: turns timed frames into scores, and scores into gestures. Needs no torch."""
