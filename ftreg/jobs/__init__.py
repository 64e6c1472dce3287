"""What a command does, as one call from Python: rooms meet here, models load where used."""
