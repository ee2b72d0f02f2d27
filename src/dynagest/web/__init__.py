"""``dynagest serve``: a web page that recognises gestures in the browser and learns new ones. Needs no torch."""
