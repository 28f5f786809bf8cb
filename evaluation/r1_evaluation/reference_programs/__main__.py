"""`python -m r1_evaluation.reference_programs`: install the reference programs for the tests."""

import sys

from r1_evaluation.reference_programs.environment import DYNAMO, RAY, NotInstalled, ensure_installed

missing = 0
for program in (DYNAMO, RAY):
    try:
        print(ensure_installed(program))
    except NotInstalled as reason:
        print(reason, file=sys.stderr)
        missing += 1
sys.exit(1 if missing else 0)
