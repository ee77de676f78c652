"""How a student is loaded, as code that runs."""

from tutelage.report.run import Run

_LONGEST = 400


def example_prompt(run: Run) -> tuple[str, bool]:
    """A prompt of the test data as the student gets it, and whether it is for a chat template.

    The prompt is empty where there is none, and for chats, whose text has the template's marks.
    """
    if "chat" in str((run.data.get("test") or run.data.get("train") or {}).get("template")):
        return "", True
    answers = run.main.evaluation.answers if run.main and run.main.evaluation else {}
    return next((str(row.get("prompt") or "") for row in answers.values()), ""), False


def is_adapter(run: Run, arm: str) -> bool:
    """Whether the student of an arm is adapters on a base model."""
    return (run.folder / "arms" / arm / "student" / "adapter_config.json").is_file()


def learned_opening(run: Run) -> tuple[str, str]:
    """What of the chat template's generation prompt no answer followed, and what it had instead."""
    opening = (run.data.get("train") or {}).get("opening") or {}
    return str(opening.get("less") or ""), str(opening.get("more") or "")


def load_snippet(
    folder: str,
    prompt: str,
    chat: bool = False,
    *,
    adapter: bool = False,
    opening: tuple[str, str] = ("", ""),
) -> str:
    """Python that loads a model and lets it answer.

    Args:
        folder: where the model is.
        prompt: what it is asked; a few words of ours when it is empty or long.
        chat: whether the prompt is what somebody says, for the tokenizer's chat template.
        adapter: whether the folder holds adapters alone: transformers then takes the generation
            defaults of the base model, which may not stop where the student does.
        opening: what to take from the end of the generation prompt, and what to put there, so that
            a student is asked as it was trained.
    """
    if not prompt or len(prompt) > _LONGEST:
        prompt = "What is the capital of France?"
    ask = 'inputs = tokenizer(prompt, return_tensors="pt")'
    if chat and any(opening):
        less, more = opening
        change = (f".removesuffix({less!a})" if less else "") + (f" + {more!a}" if more else "")
        ask = (
            "# Answers are opened as in training, and not as the template's generation prompt is.\n"
            "text = tokenizer.apply_chat_template(\n"
            '    [{"role": "user", "content": prompt}],\n'
            "    add_generation_prompt=True,\n"
            "    tokenize=False,\n"
            f"){change}\n"
            'inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")'
        )
    elif chat:
        ask = (
            "inputs = tokenizer.apply_chat_template(\n"
            '    [{"role": "user", "content": prompt}],\n'
            "    add_generation_prompt=True,\n"
            "    return_dict=True,\n"
            '    return_tensors="pt",\n'
            ")"
        )
    names, stops = "AutoModelForCausalLM, AutoTokenizer", ""
    if adapter:
        names += ", GenerationConfig"
        stops = "\nmodel.generation_config = GenerationConfig.from_pretrained(folder)"
    return f"""from transformers import {names}

folder = {folder!a}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder){stops}
prompt = {prompt!a}
{ask}
answer = model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""
