"""The commands of `dbgraph`, one module each."""
