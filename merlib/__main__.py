"""`python -m merlib` is the command `merlib`."""

from merlib.cli import main

main()
