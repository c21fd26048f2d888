"""`python -m seehear`, which torchrun can start."""

from seehear.cli import main

if __name__ == "__main__":
    main()
