"""An evaluation on disk: its folder, its header, its rows, and whether two can be compared."""
