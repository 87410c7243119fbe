"""The command line, `modelyard`."""


def main() -> None:
    """Run the command line on `sys.argv` and exit with its code."""
    from deployments.cli.app import build_app

    build_app()(prog_name="modelyard")
