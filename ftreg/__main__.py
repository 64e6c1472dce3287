"""`python -m ftreg`, which is what `accelerate launch -m ftreg` starts."""

from ftreg.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="ftreg")


if __name__ == "__main__":
    main()
