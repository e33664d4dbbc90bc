"""The model: its configuration, its size by arithmetic, and what Composer trains."""
