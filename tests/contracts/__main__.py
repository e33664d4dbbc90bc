"""`python -m tests.contracts`: write the golden files of all surfaces anew."""

from tests.contracts.surfaces import rewrite

rewrite()
