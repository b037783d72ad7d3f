"""`python -m mizzen.cli` is `mizzen`."""

from mizzen.cli.main import main

main()
