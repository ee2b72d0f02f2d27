"""Live recognition from a camera: capture, recognition, display, actions, and recording of one's own clips."""
