"""What serves training only: the decoders that predict depth, their loss, and the task that joins them to a network."""
