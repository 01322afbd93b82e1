"""``python -m ringback``: the command line, where no script of it is installed."""

from ringback.cli import main

if __name__ == "__main__":
    main()
