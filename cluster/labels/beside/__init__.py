"""What mgc keeps in the table's folder beside Delta's own files: runs under way, what rollbacks undid, and seals."""
