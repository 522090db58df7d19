"""What a user can get wrong about an evaluation."""


class EvaluationError(ValueError):
    """An evaluation cannot be made; the message names the file or the argument and says why."""
