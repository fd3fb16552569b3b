# SPDX-License-Identifier: GPL-3.0-or-later
"""DiffSpeaker, the model process: speech in, face motion out. Never imports bpy."""

import os

__version__ = "1.2.0"

# Threads that wait shall sleep, not spin: beside other busy programs (Blender rendering, say)
# spinning made sampling 30 times slower (torch 2.13 with libgomp, two processors under a load of
# 13: 78 s against 2.3 s) and numpy's products 4 times. So OpenMP's wait asleep, and numpy's BLAS
# has no threads of its own. Read when torch and numpy are imported, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("VECLIB_MAXIMUM_THREADS", "1")  # Apple's
