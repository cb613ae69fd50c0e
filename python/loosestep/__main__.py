"""`python -m loosestep` is `loosestep`."""

import sys

from loosestep.cli import main

sys.exit(main())
