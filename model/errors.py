# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the model process, one tree.

ModelError                 anything the caller can understand and act upon
├── AudioError             the sound cannot be read, is empty or holds no usable samples
├── CheckpointError        a model file is missing, broken, unsafe or does not fit its description
├── ConfigError            settings that contradict each other or cannot be built
├── CorpusError            the training corpus cannot be built from what is there
├── DataError              a data set cannot be used as it is
├── DeviceError            the asked device is missing or ran out of memory
├── EngineError            what runs the network is missing here or failed
├── FaceError              a head mesh cannot be read or does not fit the model
├── OutputError            the result cannot be written (no space, no permission)
├── RequestError           a request on the wire that makes no sense
├── StyleError             an unknown speaking style
└── Cancelled              the caller asked to stop; not a failure
"""


class ModelError(Exception):
    """Say in one sentence what happened and, in `hint`, what to do about it.

    `kind` is the stable word that travels on the wire; it is the same for every error of a class.
    """

    kind = "model"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class AudioError(ModelError):
    """The sound cannot be read, is empty or holds no usable samples."""

    kind = "audio"


class CheckpointError(ModelError):
    """A model file is missing, broken, unsafe or does not fit its own description."""

    kind = "checkpoint"


class ConfigError(ModelError):
    """Settings contradict each other or describe something that cannot be built."""

    kind = "config"


class CorpusError(ModelError):
    """The training corpus cannot be built from what is there."""

    kind = "corpus"


class DeviceError(ModelError):
    """The asked device is missing or ran out of memory."""

    kind = "device"


class EngineError(ModelError):
    """What runs the network is missing on this machine, cannot be loaded, or failed."""

    kind = "engine"


class FaceError(ModelError):
    """A head mesh cannot be read or does not fit the model."""

    kind = "face"


class OutputError(ModelError):
    """The result cannot be written: no space, no permission, no such folder."""

    kind = "output"


class RequestError(ModelError):
    """A request on the wire is malformed or names something unknown."""

    kind = "request"


class StyleError(ModelError):
    """The model does not know the asked speaking style."""

    kind = "style"


class Cancelled(ModelError):  # noqa: N818 - not a failure
    """The caller asked to stop; raised between two steps, nothing is left half done."""

    kind = "cancelled"

    def __init__(self, message: str = "Cancelled.", hint: str = "") -> None:
        super().__init__(message, hint)


class DataError(ModelError):
    """A data set cannot be used; the message lists everything that is wrong with it."""
