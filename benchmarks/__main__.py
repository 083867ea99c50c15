"""``python -m benchmarks`` is ``python -m benchmarks.exact``."""

import sys

from benchmarks.exact import main

sys.exit(main())
