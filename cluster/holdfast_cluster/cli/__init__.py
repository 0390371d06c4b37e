"""The command line: ``holdfast --help``.

Every command that asks a node is a client of its gRPC interface like any other program. Modules import nothing heavy at
their top (gRPC, rich, the node), so that help and usage errors come at once.

Exit codes: 0 done; 1 what was asked failed; 2 wrong usage; 3 not found; 4 the node can't be reached or is not ready.
"""
