"""The same pipeline on several machines: stages over ranges of lines, and over partitions of what keeps state."""
