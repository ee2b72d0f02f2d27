"""``dynagest serve``: a web page that recognises gestures in the browser, and teaches new ones. Needs no torch."""
