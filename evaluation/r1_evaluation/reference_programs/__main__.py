"""`python -m r1_evaluation.reference_programs`: make the owners' environments, so that tests may use them."""

import sys

from r1_evaluation.reference_programs.environment import DYNAMO, RAY, NotInstalled, ensure_installed

missing = 0
for owner in (DYNAMO, RAY):
    try:
        print(ensure_installed(owner))
    except NotInstalled as reason:
        print(reason, file=sys.stderr)
        missing += 1
sys.exit(1 if missing else 0)
