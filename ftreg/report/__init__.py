"""What people read: the terminal's tables and the Markdown report."""
