"""The `ldcq` command and the local launcher. Starts services as processes; imports `common` only."""
