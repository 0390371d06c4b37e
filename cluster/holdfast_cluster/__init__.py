"""The node: log, partition processors, ingress and administration in one process."""
