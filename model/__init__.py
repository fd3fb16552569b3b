"""DiffSpeaker, the model process: speech in, face motion out. Never imports bpy."""

import os

__version__ = "1.0.0"

# Threads that wait shall sleep, not spin: beside other busy programs (Blender rendering, say)
# spinning made sampling 30 times slower (torch 2.13 with libgomp, two processors under a load of
# 13: 78 s against 2.3 s). Read by the OpenMP library when torch is imported, so it stands here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
