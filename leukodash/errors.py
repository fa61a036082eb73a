"""Errors shown to the user. Each message is a sentence with what was expected, what was found and what to do."""


class LeukoDashError(Exception):
    """A problem that the user can solve. Pages show its message; the command line prints it and exits with 2."""


class DataError(LeukoDashError):
    """A data set folder, split or cell table that cannot be used."""


class ImageError(LeukoDashError):
    """A file that is not a readable image, or one over the limits."""


class WeightsError(LeukoDashError):
    """Pretrained weights that are missing, damaged or of another network."""


class RunError(LeukoDashError):
    """A run or a run's settings that cannot be used."""


class NotAllowedError(LeukoDashError):
    """Something that this person may not do here."""
