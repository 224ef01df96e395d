"""What the terminology operations have in common: how they are asked, and how they find what is meant."""
