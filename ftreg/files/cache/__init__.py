"""What can be made again: where it lies, what it holds, and whether a file of it is whole."""
