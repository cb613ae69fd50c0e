"""`python -m loosestep` is `loosestep`."""

import sys

from loosestep.cli.commands import main

sys.exit(main())
