"""How far models are from the truth: ``python benchmarks/lists_truth.py MODEL ...``.

A model is a folder or ``embedded:NAME``. For test prompts, by level and by whether a step leaves
something to choose, prints Markdown with

- nats: KL(truth || model) of whole completions, the end of the text included, exactly:
  sum over right completions c of P(c) (log P(c) - log Q(c));
- mass: the probability that an answer drawn from the model at temperature 1 is a right completion.
"""

import argparse
import math
import re
from collections import defaultdict

import torch

from tutelage.data.list_steps import OPERATIONS
from tutelage.data.lists import completion_distribution, list_examples
from tutelage.models import load_model, load_tokenizer


@torch.no_grad()
def truth(model, tokenizer, prompt: str) -> tuple[float, float]:
    """KL(truth || model) in nats and the model's mass on right completions."""
    right = completion_distribution(prompt)
    start = tokenizer(prompt)["input_ids"]
    rows = [start + tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in right]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logp = (
        model(padded, attention_mask=mask).logits[:, len(start) - 1 : -1].double().log_softmax(-1)
    )
    each = logp.gather(-1, padded[:, len(start) :, None])[..., 0] * mask[:, len(start) :]
    model_logp = each.sum(1).tolist()
    kl = sum(p * (math.log(p) - q) for p, q in zip(right.values(), model_logp, strict=True))
    return kl, sum(map(math.exp, model_logp))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    examples = list_examples("test", options.count, seed=options.seed)
    print("| model | prompts | nats | mass, % |\n|---|---|---|---|")
    for name in options.models:
        model, tokenizer = load_model(name).eval(), load_tokenizer(name)
        found = defaultdict(list)
        for example in examples:
            prompt = example.fields["prompt"]
            names = re.findall("[a-z]+", prompt)
            choice = any(OPERATIONS[name].open for name in names)
            value = truth(model, tokenizer, prompt)
            for group in ("all", "something to choose" if choice else "one right answer",
                          f"level {example.group}"):  # fmt: skip
                found[group].append(value)
        for group, values in sorted(found.items()):
            kl, mass = (sum(column) / len(values) for column in zip(*values, strict=True))
            print(f"| {name} | {group} ({len(values)}) | {kl:.2f} | {100 * mass:.1f} |")


if __name__ == "__main__":
    main()
