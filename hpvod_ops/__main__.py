"""Prints what was built, and which backend would run where: `python -m hpvod_ops`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import torch

from hpvod_ops import native
from hpvod_ops.backends import DTYPES, explain


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Prints it."""
    built = ", ".join(native.cuda_architectures())
    print(f"hpvod {_version('hpvod')}, torch {torch.__version__}, triton {_version('triton')}")
    print(f"CPU kernels:  {native.cpu_isa()}, {torch.get_num_threads()} threads")
    print(f"CUDA kernels: {f'built for {built}' if built else native.CUDA_MISSING}")
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    else:
        print(
            f"GPU:          none ({'no device' if torch.version.cuda else 'a CPU build of torch'})"
        )
    for device in devices:
        name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
        print(f"\nBackends on {device}{name}:")
        # One answer a dtype, told once where the dtypes agree.
        answers: dict[str, list[str]] = {}
        for dtype in DTYPES:
            head, _, reasons = explain(device, dtype).partition("\n")
            answer = f"{head.partition(': ')[2]}\n{reasons}"
            answers.setdefault(answer, []).append(str(dtype).removeprefix("torch."))
        for answer, dtypes in answers.items():
            print(f"{', '.join(dtypes)}: {answer}")


if __name__ == "__main__":
    main()
