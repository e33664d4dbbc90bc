"""Alembic's migrations of the service's database; they ship in the wheel and run when a store opens."""
