"""Which release of this app a process has: RELEASE=old is the one before some names came."""

import os

IS_OLD = os.environ.get("RELEASE") == "old"
