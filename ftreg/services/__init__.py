"""What is spoken to: chat endpoints, telemetry, experiment trackers, package registries."""
