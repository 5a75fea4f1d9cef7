"""Imported by the process that a run's processes are copies of: it leaves the launcher's session.

A signal to the launcher's group (of `timeout`, of systemd, of a terminal that closes) is then for
the launcher, which ends its processes in order.
"""

import os

os.setsid()
