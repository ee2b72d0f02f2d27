"""Streams: timed frames in, scores over time, and the gestures that begin and end in them. Needs no torch."""
