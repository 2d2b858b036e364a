"""`python -m strop`, for where the command is not on the path."""

from strop.cli import main

main()
