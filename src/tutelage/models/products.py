"""Matrix products of 16-bit numbers whose results are float32: how logits and gradients are made.

``torch.mm`` of two bfloat16 matrices adds up in float32 and then rounds every result to 8 bits. A
logit of 10 is then off by up to 0.03, and so is its softmax, its loss and the gradient that comes
back. Factors in 16 bits cost nothing of the kind: their errors are small and cancel in the sum.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Shape suffixes: n rows of a tile, H width, V outputs.

CPU_SLICE_BYTES = 1 << 22
"""Copies of a weight in another type are made this much at a time: they stay in the cache."""

ALIGNED = 64
"""Rows and columns come in multiples of this where 16-bit products are made as such."""

DEVICE_SLICE_BYTES = 1 << 27
"""The same elsewhere, where each slice is one more kernel to launch."""


def fast_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device has matrix products in a type; they are very slow where it has not."""
    if dtype in (torch.float32, torch.float64):
        return True
    if device.type == "cuda" and dtype is torch.bfloat16:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    supported = getattr(torch.ops.mkldnn, name.get(dtype, ""), None)
    if supported is None or not supported():
        return False
    # oneDNN also says yes where it has only AVX-512 to widen 16 bits with.
    return dtype is not torch.bfloat16 or not _has("avx512") or _has("avx512_bf16")


def _has(instructions: str) -> bool:
    """Whether torch says that the processor has some instructions; the check is not public yet."""
    return getattr(torch.cpu, f"_is_{instructions}_supported", lambda: False)()


@dataclass(frozen=True)
class Products:
    """How products are made on a device; results are float32, or float64 of float64 factors.

    Attributes:
        factors: type in which the factors are handed over.
        result: type of the results.
        rounding: the factors are float32, and the processor rounds them to bfloat16 inside.
    """

    factors: torch.dtype
    result: torch.dtype
    rounding: bool = False

    def prepared(self, weight_VH: Tensor, rows: int) -> Tensor:
        """The first rows of a weight as products take them, and maybe a few more.

        A copy in a smaller type is made once for all tiles; a larger one never exists as a whole. A
        GPU's products are five times as slow with a number of rows that is odd, so there are
        ``ALIGNED`` at a time: what the weight has beyond, or zeros.

        Args:
            weight_VH: the weight.
            rows: how many are meant.
        """
        if self.factors == self.result:
            small = self.factors.itemsize <= weight_VH.dtype.itemsize
            return weight_VH[:rows].to(self.factors) if small else weight_VH[:rows]
        most = -(-rows // ALIGNED) * ALIGNED
        if len(weight_VH) >= most:
            return weight_VH[:most].to(self.factors)
        filled = weight_VH.new_zeros(most, weight_VH.shape[1], dtype=self.factors)
        filled[:rows] = weight_VH[:rows]
        return filled

    def slices(self, weight_VH: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """A weight in the factors' type, whole, or some rows at a time where that is a copy.

        A copy is good until the next one is asked for: it is made in the same memory.
        """
        if weight_VH.dtype == self.factors:
            yield slice(0, len(weight_VH)), weight_VH
            return
        size = self._slice_rows(weight_VH)
        copy = weight_VH.new_empty(
            min(size, len(weight_VH)), weight_VH.shape[1], dtype=self.factors
        )
        for start in range(0, len(weight_VH), size):
            part = weight_VH[start : start + size]
            yield slice(start, start + size), copy[: len(part)].copy_(part)

    def _slice_rows(self, matrix: Tensor) -> int:
        most = CPU_SLICE_BYTES if matrix.device.type == "cpu" else DEVICE_SLICE_BYTES
        rows = max(1, most // (matrix.shape[1] * self.result.itemsize))
        # A GPU's fast products want rows that begin at multiples of 16 bytes.
        return rows if rows < ALIGNED else rows - rows % ALIGNED

    def multiply(
        self, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """``out = left @ right (+ bias)``; factors are of any type, ``out`` is of ``result``'s."""
        left, right = left.to(self.factors), right.to(self.factors)
        with self._products(left.device):
            if self.factors != self.result:
                torch.mm(left, right, out_dtype=self.result, out=out)
                if bias is not None:
                    out += bias
            elif bias is None:
                torch.mm(left, right, out=out)
            else:
                torch.addmm(bias.to(self.result), left, right, out=out)

    def add(self, total: Tensor, left: Tensor, right: Tensor) -> None:
        """``total += left @ right``; factors are of any type, ``total`` is of ``result``'s."""
        right = right.to(self.factors)
        with self._products(left.device):
            if self.factors == self.result:
                total.addmm_(left.to(self.factors), right)
                return
            if adds_in_place(self.factors, total.device):
                left = left.to(self.factors)
                torch.addmm(total, left, right, out_dtype=self.result, out=total)
                return
            size = self._slice_rows(total)
            for start in range(0, len(total), size):
                rows = slice(start, start + size)
                part = left[rows].to(self.factors)
                total[rows] += torch.mm(part, right, out_dtype=self.result)

    @contextlib.contextmanager
    def _products(self, device: torch.device) -> Iterator[None]:
        # Autocast would take float32 factors for its own, and round the results.
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.autocast(device.type, enabled=False))
            if self.rounding:
                stack.enter_context(_ROUNDING)
            yield


class _Rounding:
    """Lets oneDNN round float32 factors to bfloat16, for as long as somebody is inside.

    The setting is one for the whole process; it is put back when the last one leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = "none"

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = _mkldnn().fp32_precision
                _mkldnn().fp32_precision = "bf16"
            self._inside += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _mkldnn().fp32_precision = self._before


_ROUNDING = _Rounding()


def products_in(dtype: torch.dtype, device: torch.device) -> Products:
    """How to make products of factors in a type.

    16 bits with float32 results: the GPU's own products where this version of torch has them; on a
    processor with bfloat16 instructions oneDNN's, which round float32 factors inside. Elsewhere
    16 bits become 32, which is more exact.

    Args:
        dtype: type of the factors.
        device: where the products are made.
    """
    if dtype in (torch.float32, torch.float64):
        return Products(dtype, dtype)
    if fast_in(dtype, device):
        if device.type == "cuda" and hasattr(torch.ops.aten.mm, "dtype_out"):
            return Products(dtype, torch.float32)
        if device.type == "cpu" and dtype is torch.bfloat16 and _can_round():
            return Products(torch.float32, torch.float32, rounding=True)
    return Products(torch.float32, torch.float32)


@functools.cache
def adds_in_place(factors: torch.dtype, device: torch.device) -> bool:
    """Whether a device adds products of 16-bit factors to a float32 sum where it lies.

    Not all versions of torch do, and on a CPU none does: it is tried once.
    """
    if device.type != "cuda" or not hasattr(torch.ops.aten.addmm, "dtype_out"):
        return False
    left = torch.eye(16, dtype=factors, device=device)
    total = torch.ones(16, 16, device=device)
    try:
        torch.addmm(total, left, left, out_dtype=torch.float32, out=total)
    except (RuntimeError, TypeError):
        return False
    return torch.equal(total, torch.ones_like(total) + torch.eye(16, device=device))


def _can_round() -> bool:
    """Whether this version of torch can be told to round inside a product on a CPU."""
    return hasattr(_mkldnn(), "fp32_precision")


def _mkldnn() -> Any:
    """The settings of products on a CPU; None in versions of torch without them."""
    return getattr(torch.backends.mkldnn, "matmul", None)


class Float32Results(TorchFunctionMode):
    """While it is on, linear maps of 16-bit numbers give float32 results.

    For heads that are modules of their own (LoRA, wrappers): whatever calls ``linear`` on plain
    tensors in 16 bits, by their type or by autocast, is taken over, with its gradients. Packed
    weights (quantised heads) multiply as they always do.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Take over ``linear``, and leave everything else."""
        kwargs = kwargs or {}
        if func is functional.linear and not kwargs and 2 <= len(args) <= 3:
            dtype = _sixteen_bits(*args[:2])
            if dtype is not None:
                products = products_in(dtype, args[0].device)
                return _Linear.apply(products, *args, *([None] * (3 - len(args))))
        return func(*args, **kwargs)


def _sixteen_bits(value: Any, weight: Any) -> torch.dtype | None:
    """The 16-bit type in which a linear map would multiply; None where it would not."""
    plain = all(type(one) in (Tensor, torch.nn.Parameter) for one in (value, weight))
    if not plain or weight.dim() != 2 or torch.float64 in (value.dtype, weight.dtype):
        return None
    device = value.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


class _Linear(torch.autograd.Function):
    """``linear`` by ``Products``, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any, products: Products, value: Tensor, weight_VH: Tensor, bias_V: Tensor | None
    ) -> Tensor:
        value_nH = value.reshape(-1, value.shape[-1])
        result_nV = value_nH.new_empty(len(value_nH), len(weight_VH), dtype=products.result)
        for columns, part in products.slices(weight_VH):
            bias = None if bias_V is None else bias_V[columns]
            products.multiply(value_nH, part.t(), result_nV[:, columns], bias)
        ctx.products = products
        ctx.types = [one if one is None else one.dtype for one in (value, weight_VH, bias_V)]
        ctx.save_for_backward(value, weight_VH)
        return result_nV.view(*value.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        value, weight_VH = ctx.saved_tensors
        products: Products = ctx.products
        gradient_nV = above[0].reshape(-1, above[0].shape[-1])
        value_nH = value.reshape(-1, value.shape[-1])
        in_value = in_weight = in_bias = None
        if ctx.needs_input_grad[1]:
            in_value = torch.zeros_like(value_nH, dtype=products.result)
            for columns, part in products.slices(weight_VH):
                products.add(in_value, gradient_nV[:, columns], part)
            in_value = in_value.view(value.shape).to(ctx.types[0])
        if ctx.needs_input_grad[2]:
            in_weight = torch.zeros_like(weight_VH, dtype=products.result)
            products.add(in_weight, gradient_nV.t(), value_nH)
            in_weight = in_weight.to(ctx.types[1])
        if ctx.needs_input_grad[3]:
            in_bias = gradient_nV.sum(0).to(ctx.types[2])
        return None, in_value, in_weight, in_bias
