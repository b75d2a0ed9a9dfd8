"""The schema, step by step; each module is one migration, in the order of the numbers."""
