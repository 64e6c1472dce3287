"""What several commands share: options, progress, completion, and how a command ends."""
