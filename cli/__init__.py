"""The `ldcq` command and the local launcher."""

import os

# gRPC's own account of closed connections; read when it is imported, hence here.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
