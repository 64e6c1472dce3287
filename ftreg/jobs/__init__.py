"""What a command does, each as one call from Python: here the rooms meet."""
