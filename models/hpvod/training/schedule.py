"""The learning rate of each iteration."""


def learning_rate(base: float, iteration: int, iterations: int, warm_up: int = 0) -> float:
    """The base rate, a tenth of it after two thirds of the run.

    Args:
        base: the learning rate of the run.
        iteration: from 0.
        iterations: of the whole run.
        warm_up: iterations over which the rate rises linearly at first; networks from scratch
            need it.
    """
    rate = base if 3 * iteration < 2 * iterations else base / 10
    return rate * min(1.0, (iteration + 1) / (warm_up + 1))
