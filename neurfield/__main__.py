# SPDX-License-Identifier: Apache-2.0
"""`python -m neurfield`: the `neurfield` command where only the interpreter is at hand."""

import sys

from neurfield.cli.main import main

sys.exit(main())
