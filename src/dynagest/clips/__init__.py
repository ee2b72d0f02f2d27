"""From files to batches: which clips there are, their frames and their depth, and how they are looked at."""
