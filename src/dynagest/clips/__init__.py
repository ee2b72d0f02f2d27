"""Everything from files to batches: lists of clips, their frames and depth, sampling, crops and augmentation."""
