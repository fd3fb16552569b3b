# SPDX-License-Identifier: GPL-3.0-or-later
"""Speech encoders, built from their configuration alone: HuBERT, wav2vec 2.0, Whisper."""
