"""What can go wrong in training by the user's doing."""


class TrainingError(ValueError):
    """Training cannot start or go on; the message says why and, where there is one, the way out."""
