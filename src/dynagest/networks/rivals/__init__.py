"""The other systems of the paper's tables, one file each, as networks of clips. See docs/rivals.md."""
