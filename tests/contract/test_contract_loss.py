"""The tiled loss equals the dense one: every divergence, every target, every kind of head.

The reference takes whole logits in float64, works in probabilities, and leaves all gradients to
autograd; the loss works in logarithms, in float32, in pieces, with gradients written out by hand.
"""

import copy
import itertools
import types

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError
from tutelage.models import products as products_module
from tutelage.models import projection as projection_module
from tutelage.models.projection import LinearProjection, OpaqueProjection, projection
from tutelage.targets import TARGETS, with_tail
from tutelage.teachers import EnsembleTeacher, LiveTeacher
from tutelage.training.loss import CE, KD, KD_TOKENS, TARGET_ENTROPY, DistillLoss, StepValues

VOCAB, HIDDEN, TEACHER_HIDDEN = 37, 5, 6
CPU = torch.device("cpu")


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def mixed(p, q, weight_q):
    return (1 - weight_q) * p + weight_q * q


REFERENCES = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "symmetric_kl": lambda p, q: (kl(p, q) + kl(q, p)) / 2,
    "adaptive_kl": lambda p, q: (
        (w := 1 - (p * p.log()).sum(-1).exp().detach()) * kl(p, q) + (1 - w) * kl(q, p)
    ),
    # Where both are equal but for rounding there is no gradient, and 0 is given.
    "tvd": lambda p, q: (p - q).where((p - q).abs() > 1e-12, 0.0).abs().sum(-1) / 2,
    "hellinger": lambda p, q: (p.sqrt() - q.sqrt()).square().sum(-1) / 2,
    "jsd": lambda p, q: (kl(p, mixed(p, q, 0.5)) + kl(q, mixed(p, q, 0.5))) / 2,
    "skl": lambda p, q: kl(p, mixed(q, p, 0.1)),
    "srkl": lambda p, q: kl(q, mixed(p, q, 0.1)),
    "alpha_beta": lambda p, q: (
        -(p**0.2 * q**0.7 - 0.2 / 0.9 * p**0.9 - 0.7 / 0.9 * q**0.9).sum(-1) / 0.14
    ),
    "bdl": lambda p, q: kl(mixed(p, q, 0.9), mixed(q, p, 0.9)),
}
MIXTURES = {
    "probability_mix": lambda p, q, share: share * q + (1 - share) * p,
    "logit_mix": lambda p, q, share: (share * q.detach().log() + (1 - share) * p.log()).softmax(-1),
}


class Model(nn.Module):
    """A model that is nothing but its head."""

    def __init__(self, width, rows=VOCAB, bias=False, **config):
        super().__init__()
        self.lm_head = nn.Linear(width, rows, bias=bias)
        nn.init.normal_(self.lm_head.weight)
        text = types.SimpleNamespace(**config)
        # Some versions of peft ask a configuration as one asks a dictionary.
        self.config = types.SimpleNamespace(get_text_config=lambda: text, get=lambda name: None)

    def get_output_embeddings(self):
        return self.lm_head


def lora(model):
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    return inject_adapter_in_model(settings, model)


def frozen(model, *names):
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def hooked(model):
    model.lm_head.register_forward_hook(lambda module, arguments, output: 2.0 * output)
    return model


HEADS = {
    "plain": lambda: Model(HIDDEN),
    "bias": lambda: Model(HIDDEN, bias=True),
    "padded": lambda: Model(HIDDEN, rows=VOCAB + 5, bias=True),
    "softcap": lambda: Model(HIDDEN, final_logit_softcapping=1.5),
    "scale": lambda: Model(HIDDEN, logit_scale=0.3),
    "divisor": lambda: Model(HIDDEN, logits_scaling=2.5, bias=True),
    "frozen": lambda: frozen(Model(HIDDEN), "lm_head.weight"),
    "frozen_weight": lambda: frozen(Model(HIDDEN, bias=True), "lm_head.weight"),
    "lora": lambda: lora(Model(HIDDEN)),
    "lora_padded": lambda: lora(Model(HIDDEN, rows=VOCAB + 3, final_logit_softcapping=2.0)),
    "hooked": lambda: hooked(Model(HIDDEN)),
}


def case(head="plain", tokens=7, seed=0):
    torch.manual_seed(seed)
    student, teacher = HEADS[head](), Model(TEACHER_HIDDEN, rows=VOCAB + 2, bias=True)
    hidden, teacher_hidden = torch.randn(tokens, HIDDEN), torch.randn(tokens, TEACHER_HIDDEN)
    return student, teacher, hidden, teacher_hidden, torch.randint(0, VOCAB, (tokens,))


def capped(model, logits):
    config = model.config.get_text_config()
    logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * (logits / cap).tanh()


def dense(
    divergence, target, values, student, teacher, hidden, teacher_hidden, targets, vocab=VOCAB
):
    """Value, parts and gradients (of states and all parameters that have one)."""
    student, teacher = copy.deepcopy(student).double(), copy.deepcopy(teacher).double()
    hidden = hidden.detach().double().requires_grad_()
    logits = capped(student, student.lm_head(hidden)[:, :vocab])
    tau = values.distill_temperature
    with torch.no_grad():
        p = (teacher.lm_head(teacher_hidden.double())[:, :vocab] / tau).softmax(-1)
    q = (logits / tau).softmax(-1)
    mixture = MIXTURES[target](p, q, values.student_share)
    kd = tau**2 * REFERENCES[divergence](mixture, q).sum()
    ce = nn.functional.cross_entropy(logits, targets, reduction="sum")
    total = values.ce_weight * ce + (1 - values.ce_weight) * kd
    total.backward()
    grads = [hidden.grad] + [p.grad for p in student.parameters() if p.requires_grad]
    return total.detach(), ce.detach(), kd.detach(), grads


def tiled(divergence, target, values, student, teacher, hidden, teacher_hidden, targets, **options):
    """The same of the loss."""
    loss = DistillLoss(DIVERGENCES[divergence].function, TARGETS[target].function, VOCAB, **options)
    hidden = hidden.clone().requires_grad_()
    student.zero_grad()
    signal = teacher if not isinstance(teacher, nn.Module) else LiveTeacher(teacher, VOCAB)
    sums = loss(student, hidden, targets, values, signal, teacher_hidden)
    sums.total.backward()
    grads = [hidden.grad] + [p.grad for p in student.parameters() if p.requires_grad]
    return sums.total.detach(), sums.parts[CE], sums.parts[KD], grads


def assert_equal(found, expected, values, rtol=2e-4, atol=2e-5):
    close = {"rtol": rtol, "atol": atol, "check_dtype": False}
    torch.testing.assert_close(found[0], expected[0], **close)
    torch.testing.assert_close(found[1], expected[1], **close)
    if values.needs_teacher:
        torch.testing.assert_close(found[2], expected[2], **close)
    for one, other in zip(found[3], expected[3], strict=True):
        torch.testing.assert_close(one, other, **close)


def test_every_row_has_a_reference():
    assert set(REFERENCES) == set(DIVERGENCES) and set(MIXTURES) == set(TARGETS)


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_the_whole_table(divergence, target):
    inputs = case("bias", tokens=7)
    for tau, weight, share in itertools.product((1.0, 1.7), (0.0, 0.3, 1.0), (0.0, 0.4, 1.0)):
        values = StepValues(share, tau, weight)
        found = tiled(divergence, target, values, *inputs, tile_tokens=5, block_tokens=3)
        assert_equal(found, dense(divergence, target, values, *inputs), values)


@pytest.mark.parametrize("tokens", [0, 1, 7, 33])
@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_and_every_cut(head, tokens):
    inputs = case(head, tokens)
    for divergence, values in (
        ("forward_kl", StepValues(0.0, 1.0, 0.3)),
        ("jsd", StepValues(0.4, 1.7, 0.3)),
        ("reverse_kl", StepValues(0.0, 1.7, 1.0)),
    ):
        expected = dense(divergence, "probability_mix", values, *inputs)
        for tile, block in ((None, None), (5, 3), (1, 1), (33, 4)):
            found = tiled(
                divergence, "probability_mix", values, *inputs, tile_tokens=tile, block_tokens=block
            )
            assert_equal(found, expected, values)


def test_a_plain_head_takes_the_short_way_and_others_do_not():
    ways = {head: type(projection(make(), VOCAB)) for head, make in HEADS.items()}
    for head, way in ways.items():
        opaque = head.startswith(("lora", "hooked"))
        assert way is (OpaqueProjection if opaque else LinearProjection), head


def test_rows_of_the_head_beyond_the_vocabulary_have_no_gradient():
    inputs = case("padded")
    tiled("forward_kl", "probability_mix", StepValues(0.0, 1.0, 0.3), *inputs)
    weight, bias = inputs[0].lm_head.weight, inputs[0].lm_head.bias
    assert weight.grad[:VOCAB].abs().min() > 0 and bias.grad[:VOCAB].abs().min() > 0
    assert weight.grad[VOCAB:].abs().max() == 0 and bias.grad[VOCAB:].abs().max() == 0


def test_a_frozen_head_gets_no_gradient():
    inputs = case("frozen")
    tiled("forward_kl", "probability_mix", StepValues(0.0, 1.0, 0.3), *inputs)
    assert inputs[0].lm_head.weight.grad is None


@pytest.fixture(params=["processor", "gpu", "none"])
def way(request, monkeypatch):
    """The ways to make products of 16-bit numbers: inside oneDNN, on a GPU, and in float32."""

    def mm(left, right, *, out_dtype=None, out=None):
        if out_dtype is None:
            return real(left, right, out=out)
        assert left.dtype == right.dtype == torch.bfloat16 and out_dtype == torch.float32
        return real(left.float(), right.float(), out=out)

    real = torch.mm
    if request.param == "processor" and not products_module.fast_in(torch.bfloat16, CPU):
        pytest.skip("this processor has no products of bfloat16")
    if request.param == "gpu":
        monkeypatch.setattr(torch, "mm", mm)
        way = products_module.Products(torch.bfloat16, torch.float32)
        monkeypatch.setattr(projection_module, "products_in", lambda dtype, device: way)
        monkeypatch.setattr(products_module, "products_in", lambda dtype, device: way)
    if request.param == "none":
        monkeypatch.setattr(products_module, "fast_in", lambda dtype, device: False)
    monkeypatch.setattr(products_module, "CPU_SLICE_BYTES", 4 * HIDDEN * 8)
    return request.param


@pytest.mark.parametrize("kind", ["autocast", "weights"])
@pytest.mark.parametrize("head", ["plain", "bias", "padded", "lora"])
def test_sixteen_bits_are_close(way, head, kind):
    """However a machine makes products in 16 bits, and in all types of weights."""
    inputs = case(head, tokens=33)
    values = StepValues(0.4, 1.7, 0.3)
    options = {"tile_tokens": 9, "block_tokens": 4}
    if kind == "autocast":
        options["autocast_dtype"] = torch.bfloat16
    else:
        inputs = (inputs[0].bfloat16(), inputs[1], inputs[2].bfloat16(), *inputs[3:])
    expected = dense("forward_kl", "probability_mix", values, *inputs)
    found = tiled("forward_kl", "probability_mix", values, *inputs, **options)
    assert found[0].dtype == torch.float32
    assert found[0].item() == pytest.approx(expected[0].item(), rel=0.01)
    for one, other in zip(found[3], expected[3], strict=True):
        assert one.dtype == (torch.float32 if kind == "autocast" else torch.bfloat16)
        assert (one - other).norm() < 0.015 * other.norm()


def spread(model, width):
    """Logits with a standard deviation of 3, as those of trained models have."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=3 / width**0.5)
    return model


@pytest.mark.parametrize("kind", ["autocast", "weights"])
@pytest.mark.parametrize("head", ["plain", "lora"])
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_sixteen_bits_err_no_more_than_their_factors(divergence, head, kind):
    """Logits and their gradients are float32: what is rounded is what goes into a product.

    Rounded logits alone would put the gradients off by one to two percent here.
    """
    torch.manual_seed(0)
    width, vocab, tokens = 64, 512, 64
    make = lora if head == "lora" else lambda model: model
    student = make(spread(Model(width, rows=vocab), width)).bfloat16()
    teacher = spread(Model(width, rows=vocab), width).bfloat16()
    hidden, teacher_hidden = torch.randn(2, tokens, width).bfloat16()
    inputs = [student, teacher, hidden, teacher_hidden, torch.randint(0, vocab, (tokens,))]
    if kind == "autocast":  # the same numbers in float32
        inputs[:4] = [one.float() for one in inputs[:4]]
    values = StepValues(0.0, 1.0, 0.0)
    expected = dense(divergence, "probability_mix", values, *inputs, vocab=vocab)
    autocast = torch.bfloat16 if kind == "autocast" else None
    signal = LiveTeacher(inputs[1], vocab, autocast)
    loss = DistillLoss(
        DIVERGENCES[divergence].function,
        TARGETS["probability_mix"].function,
        vocab,
        autocast_dtype=autocast,
    )
    inputs[2].requires_grad_()
    total = loss(student, inputs[2], inputs[4], values, signal, inputs[3]).total
    total.backward()
    # LoRA hands 16 bits from one of its maps to the next where the weights are 16 bits.
    most = 0.01 if head == "lora" else 0.004
    assert total.item() == pytest.approx(expected[0].item(), rel=1e-4 if head == "plain" else 1e-3)
    grads = [inputs[2].grad] + [p.grad for p in inputs[0].parameters() if p.requires_grad]
    for one, other in zip(grads, expected[3], strict=True):
        assert (one.double() - other).norm() < most * other.norm()


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_float64_is_float64_throughout(divergence):
    inputs = [one.double() if not isinstance(one, int) else one for one in case("bias")[:4]]
    inputs.append(case("bias")[4])
    values = StepValues(0.4, 1.7, 0.3)
    found = tiled(divergence, "probability_mix", values, *inputs, tile_tokens=5, block_tokens=3)
    assert {found[0].dtype, *(gradient.dtype for gradient in found[3])} == {torch.float64}
    expected = dense(divergence, "probability_mix", values, *inputs)
    assert_equal(found, expected, values, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("head", ["bias", "lora"])
def test_threads_change_nothing_but_rounding(head):
    """Blocks on several threads write their own rows, are added in order, and leave no setting."""
    inputs, before = case(head, tokens=33), torch.get_num_threads()
    found = []
    for threads in (1, 3, 3):
        torch.set_num_threads(threads)
        try:
            found.append(
                tiled(
                    *("jsd", "probability_mix", StepValues(0.4, 1.7, 0.3), *inputs),
                    tile_tokens=17,
                    block_tokens=2,
                )
            )
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        assert_equal(other, found[0], StepValues(0.4, 1.7, 0.3), rtol=1e-6, atol=1e-6)


def test_an_error_in_a_block_is_raised():
    def broken(teacher_logp, student_logp):
        raise ConfigError("this divergence is broken")

    student, teacher, hidden, teacher_hidden, targets = case()
    loss = DistillLoss(broken, TARGETS["logit_mix"].function, VOCAB)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ConfigError, match="broken"):
            loss(
                *(student, hidden, targets, StepValues(0.0, 1.0, 0.0)),
                *(LiveTeacher(teacher, VOCAB), teacher_hidden),
            )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


@pytest.mark.parametrize("head", ["bias", "lora"])
def test_no_array_of_all_tokens_and_tokens_of_the_vocabulary(head, one_thread):
    inputs = case(head, tokens=96)
    values = StepValues(0.4, 1.7, 0.3)
    with Largest() as largest:
        tiled("jsd", "probability_mix", values, *inputs, tile_tokens=8, block_tokens=2)
    assert largest.numbers <= max(8 * (VOCAB + 2), 96 * TEACHER_HIDDEN)


def test_the_budget_sets_the_tile(one_thread):
    values = StepValues(0.0, 1.0, 0.3)
    inputs = case("plain", tokens=96)
    with Largest() as largest:
        # 20 rows of float32 logits of two models; cut evenly, 5 tiles of 20, 19, ...
        tiled("forward_kl", "probability_mix", values, *inputs, tile_bytes=20 * 8 * VOCAB)
    assert largest.numbers == 20 * VOCAB


def test_gradients_are_scaled_once_and_given_away():
    student, teacher, hidden, teacher_hidden, targets = case("bias", tokens=7)
    loss = DistillLoss(DIVERGENCES["jsd"].function, TARGETS["probability_mix"].function, VOCAB)
    values, signal = StepValues(0.0, 1.0, 0.3), LiveTeacher(teacher, VOCAB)
    hidden.requires_grad_()
    once = loss(student, hidden, targets, values, signal, teacher_hidden).total
    once.backward(retain_graph=True)
    plain = [hidden.grad.clone(), *(p.grad.clone() for p in student.parameters())]
    with pytest.raises(RuntimeError, match="earlier backward pass"):
        once.backward()
    # Two micro-batches, each divided by the tokens of the step, add up.
    for _ in range(2):
        again = loss(student, hidden, targets, values, signal, teacher_hidden).total
        (again / 4).backward()
    for one, other in zip([hidden, *student.parameters()], plain, strict=True):
        torch.testing.assert_close(one.grad, 1.5 * other)


def test_without_gradients_the_value_is_the_same():
    student, teacher, hidden, teacher_hidden, targets = case("bias", tokens=7)
    values = StepValues(0.4, 1.7, 0.3)
    expected = dense(
        "forward_kl", "logit_mix", values, student, teacher, hidden, teacher_hidden, targets
    )
    loss = DistillLoss(
        DIVERGENCES["forward_kl"].function,
        TARGETS["logit_mix"].function,
        VOCAB,
        target_entropy=True,
    )
    with torch.no_grad():
        sums = loss(student, hidden, targets, values, LiveTeacher(teacher, VOCAB), teacher_hidden)
    assert sums.total.item() == pytest.approx(expected[0].item(), rel=1e-5)
    assert sums.parts[KD_TOKENS] == 7 and 0 < sums.parts[TARGET_ENTROPY] < 7 * 4


class KeptTile:
    def __init__(self, tile, count, k):
        self._tile = tile
        self.kept_nK = tile.log_probs(slice(0, count), 1.0).topk(k, dim=-1).indices

    def log_probs(self, rows, temperature):
        return with_tail(self._tile.log_probs(rows, temperature), self.kept_nK[rows])


class KeptTeacher(LiveTeacher):
    """Says only what its three likeliest tokens are."""

    def tiles(self, hidden_NH, tile_tokens):
        for tile in super().tiles(hidden_NH, tile_tokens):
            yield KeptTile(tile, len(tile.logits_nV), 3)


@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
@pytest.mark.parametrize("top_k", [None, 2, 3])
def test_a_teacher_that_keeps_few_tokens_is_one_that_is_cut_to_them(divergence, top_k):
    student, teacher, *rest = case("bias", tokens=7)
    values = StepValues(0.4, 1.7, 0.3)
    options = {"tile_tokens": 5, "block_tokens": 3}
    kept, whole = KeptTeacher(teacher, VOCAB), LiveTeacher(teacher, VOCAB)
    arguments = (divergence, "probability_mix", values, student)
    found = tiled(*arguments, kept, *rest, top_k=top_k, **options)
    expected = tiled(*arguments, whole, *rest, top_k=top_k or 3, **options)
    assert_equal(found, expected, values, rtol=1e-5, atol=1e-6)


def test_teachers_that_keep_few_tokens_cannot_be_mixed():
    _, teacher, _, teacher_hidden, _ = case()
    mixture = EnsembleTeacher([KeptTeacher(teacher, VOCAB)] * 2, [1.0, 1.0], "probability")
    mixture._widths = [TEACHER_HIDDEN] * 2
    with pytest.raises(ConfigError, match="likeliest tokens alone"):
        next(mixture.tiles(torch.cat([teacher_hidden] * 2, -1), 4))
