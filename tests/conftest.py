# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: drawn examples are fresh at a desk, the same on every run of CI."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
