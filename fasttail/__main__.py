"""`python -m fasttail`, which is what torchrun starts."""

from fasttail.cli import main

if __name__ == "__main__":
    main()
