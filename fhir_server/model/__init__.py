"""What every layer shares: documents as exact JSON, references, errors, the plain request and answer, ids, the
clock."""
