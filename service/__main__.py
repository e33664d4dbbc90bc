"""`python -m service`: the same as `switchpoint-service`."""

from service.cli import main

raise SystemExit(main())
