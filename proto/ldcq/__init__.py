"""Generated gRPC contracts."""
