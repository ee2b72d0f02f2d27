"""From a camera to gestures as they happen: capture, recognition, display, actions, and recording one's own clips."""
