"""In which types a device multiplies fast."""

import pytest
import torch

from tutelage.models import products as projection

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def processor(monkeypatch):
    """A processor with these instructions, of whom oneDNN knows some."""

    def make(*instructions, onednn=True):
        monkeypatch.setattr(projection, "_has", lambda name: name in instructions)
        known = type("mkldnn", (), {"_is_mkldnn_bf16_supported": staticmethod(lambda: onednn)})
        monkeypatch.setattr(torch.ops, "mkldnn", known)

    return make


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_always_at_hand(dtype, device):
    assert projection.fast_in(dtype, device)


@pytest.mark.parametrize(
    ("instructions", "onednn", "fast"),
    [
        (("avx512", "avx512_bf16"), True, True),
        (("avx512",), True, False),
        ((), True, True),  # an ARM processor with the instructions
        ((), False, False),  # AVX2
    ],
)
def test_bfloat16_needs_instructions_of_its_own(processor, instructions, onednn, fast):
    processor(*instructions, onednn=onednn)
    assert projection.fast_in(torch.bfloat16, CPU) is fast


def test_float16_is_slow_where_onednn_does_not_know_it(processor):
    processor("avx512", "avx512_bf16")
    assert not projection.fast_in(torch.float16, CPU)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_emulates_bfloat16_is_slow_in_it(monkeypatch, native):
    def supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert projection.fast_in(torch.bfloat16, CUDA) is native
    assert projection.fast_in(torch.float16, CUDA)


def test_sixteen_bit_products_take_rows_in_multiples():
    products = projection.Products(torch.bfloat16, torch.float32)
    weight = torch.randn(200, 3)
    for rows, size in ((100, 128), (128, 128), (190, 192)):
        taken = products.prepared(weight, rows)
        assert taken.dtype is torch.bfloat16 and len(taken) == size
        assert torch.equal(taken, weight[:size].bfloat16()), "what the weight has beyond"
    taken = products.prepared(weight, 200)
    assert len(taken) == 256 and torch.equal(taken[:200], weight.bfloat16())
    assert not taken[200:].any(), "and zeros where it has none"
    same = projection.Products(torch.float32, torch.float32).prepared(weight, 100)
    assert same.data_ptr() == weight.data_ptr() and len(same) == 100
