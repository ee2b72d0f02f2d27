"""Generates RGB-D clips of gestures: an articulated hand, rendered on the fly or written to disk.

The modules, from the skeleton up: ``spec`` (settings and presets), ``subject`` (who performs), ``solids`` (what is
drawn), ``hand`` (bones and their solids), ``gestures`` (the classes), ``motion`` (poses in time), ``idle`` (movements
that are no gesture), ``canvas`` and ``scene`` (the place), ``render`` (a z-buffer), ``sensor`` (the cameras), ``film``
(renders the frames of a take), ``recording`` (plans and records the clip of an index), ``pool`` (renders many clips on
all cores). Other packages use ``dataset``, ``write``, ``stream`` (long recordings) and ``sheet``.
"""
