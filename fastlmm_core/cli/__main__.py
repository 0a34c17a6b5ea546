"""`python -m fastlmm_core.cli`."""

import sys

from fastlmm_core.cli import main

sys.exit(main())
