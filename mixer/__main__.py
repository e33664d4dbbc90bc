"""`python -m mixer` is `switchpoint-mixer`."""

import sys

from mixer.cli import main

sys.exit(main())
