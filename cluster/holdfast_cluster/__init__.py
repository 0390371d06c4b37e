"""The node: configuration, listeners, routing, and everything put together.

Read `node` first: it says what a node is made of. A request comes in through `http_server` or `grpc_server`, is
understood by `ingress_http` or `ingress_grpc`, becomes a command in `ingress`, and goes to the partition that `router`
names. `registry` and `admin_grpc` are for operators, `cli` is the `holdfast` command.
"""
