# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a speech encoder from its description; this stands above the encoders it knows."""

from ..spec import EncoderSpec
from .hubert import HubertEncoder
from .speech_encoder import SpeechEncoder
from .whisper import WhisperEncoder


def build_encoder(spec: EncoderSpec) -> SpeechEncoder:
    """Build an untrained encoder from its description."""
    kind = WhisperEncoder if spec.kind == "whisper" else HubertEncoder
    return kind(spec.config)
