"""Everything that touches the world: Ray Serve, HTTP, model runtimes, telemetry, the command line."""
