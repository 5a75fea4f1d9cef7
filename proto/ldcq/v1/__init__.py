"""Version 1 of the contracts; generated from the .proto files beside it by `make proto`."""
