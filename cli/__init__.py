"""The `ldcq` command and the local launcher. Imports `common` only."""
