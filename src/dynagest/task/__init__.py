"""Everything that serves training only: the depth decoders, their loss, and the tasks that join them to a network."""
