"""External services: chat endpoints, telemetry, experiment trackers, package registries."""
