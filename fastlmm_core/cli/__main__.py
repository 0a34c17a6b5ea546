"""`python -m fastlmm_core.cli`."""

import sys

from . import main

sys.exit(main())
