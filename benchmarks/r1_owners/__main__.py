"""`python -m r1_owners`: make the owners' environments, so that tests may use them."""

import sys

from r1_owners.environment import DYNAMO, RAY, NotToBeHad, obtain

missing = 0
for owner in (DYNAMO, RAY):
    try:
        print(obtain(owner))
    except NotToBeHad as reason:
        print(reason, file=sys.stderr)
        missing += 1
sys.exit(1 if missing else 0)
