"""Compiles warp's Triton kernels for GPUs that need not be here; prints {kernel name: PTX}.

A program of its own, since a process in Triton's interpreter cannot compile.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hpvod_ops.triton import _warp_kernels as kernels
from hpvod_ops.triton.warp import LINK_PIXELS, gather_tile, stream_tile

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp64": 8}


def compile_to_ptx(kernel: Any, capability: int, warps: int, **arguments: Any) -> str:
    """`arguments` has a type for each pointer and integer, a value for each constant.

    Pointers are 16-byte aligned and the channels multiples of 16, as Triton itself finds them
    for fresh tensors of the networks' sizes.
    """
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = arguments.get(name, "i32")
        if isinstance(value, str):
            signature[name] = value
            if name not in kernels.UNSPECIALIZED:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "constexpr"
            constants[(index,)] = value
    source = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    ptx: str = triton.compile(source, target=target, options={"num_warps": warps}).asm["ptx"]
    return ptx


def main() -> None:
    """Compiles for each (compute capability, dtype, layout, whether offsets are int64)."""
    found = {}
    for capability, dtype, layout, wide in json.loads(sys.argv[1]):
        pointer, index = f"*{dtype}", "*i64" if wide else "*i32"
        last = layout == "channels_last"
        stream = stream_tile(1024, 1024, BYTES[dtype], last)
        gather = gather_tile(1024, 1024, BYTES[dtype], last)
        maps = ("feature", "scale", "output", "grad_output", "grad_feature", "grad_scale")
        arguments = dict.fromkeys(maps, pointer)
        arguments |= {"flow": "*fp32", "grad_flow": "*fp32", "head": index, "following": index}
        arguments |= {"CHANNELS_LAST": last, "WIDE": wide, "DOUBLE": dtype == "fp64"}
        for kernel, tile in (
            (kernels.forward_kernel, stream),
            (kernels.grad_feature_kernel, gather),
            (kernels.grad_flow_scale_kernel, stream),
        ):
            block = {"PIXELS": tile.pixels, "CHANNELS": tile.channels}
            name = f"{kernel.__name__} sm_{capability} {dtype} {layout}"
            found[name] = compile_to_ptx(kernel, capability, tile.warps, **arguments, **block)
        name = f"link_kernel sm_{capability} {'double' if dtype == 'fp64' else 'float'} {wide}"
        if name not in found:
            found[name] = compile_to_ptx(
                kernels.link_kernel, capability, 4, **arguments, PIXELS=LINK_PIXELS
            )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
