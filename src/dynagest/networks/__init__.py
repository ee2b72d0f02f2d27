"""The networks: tensors in, logits out. They know nothing of depth, files of clips or images."""
