"""The numeric precision of training, and its speed."""

import time

import torch


def choose_precision(configured: str, device: torch.device) -> str:
    """Resolve `auto`: bf16 autocast where the device multiplies bf16 in hardware, else fp32.

    Weights, gradients and optimizer state stay fp32 in either case.
    """
    if configured != "auto":
        return configured
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    # torch has no public API for this yet; without one of these units bf16 is emulated and slow.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def product_rate(dtype: torch.dtype, device: torch.device, *, size: int = 1024) -> float:
    """Measure matrix products in GFLOP/s: the best of five with `size` cubed multiply-adds.

    Stops after a second, so an emulated precision is measured with fewer.
    """
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    left[:1] @ right  # loads the kernels
    best, began = float("inf"), time.perf_counter()
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > 1:
            break
    return 2 * size**3 / best / 1e9
