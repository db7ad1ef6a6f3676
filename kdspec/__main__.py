"""`python -m kdspec`, which is also what `torchrun -m kdspec` starts."""

import sys

from kdspec.cli import main

sys.exit(main())
