"""The wire: .proto files with their generated stubs, the common framing, and identifiers as people see them.

Shared by the server packages and the SDK, and importing nothing of either.
"""
