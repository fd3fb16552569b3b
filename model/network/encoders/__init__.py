"""Speech encoders, built from their configuration alone: HuBERT, wav2vec 2.0, Whisper."""
