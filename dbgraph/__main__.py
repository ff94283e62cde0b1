"""`python -m dbgraph` is the program `dbgraph`."""

from dbgraph.cli import main

if __name__ == "__main__":
    main()
