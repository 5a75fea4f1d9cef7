"""What services share. Imports no service."""
