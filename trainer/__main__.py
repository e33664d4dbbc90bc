"""`python -m trainer cfg.yaml ...` is `python trainer/run.py cfg.yaml ...`."""

import sys

from trainer.run import main

sys.exit(main())
