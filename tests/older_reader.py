"""Generate with another version of transformers, for `test_other_readers.py`; without ftreg.

Input on stdin: a JSON list of cases with `folder` of a model, folder of `adapters` or null, folder
of a `tokenizer` or null, `prompts` (chats, or token ids without a tokenizer), `new_tokens`. Output
on stdout: the version, and each case's greedy answers as texts, or token ids without a tokenizer.
"""

import json
import sys
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def answers(case: dict[str, Any]) -> list[Any]:
    model: Any = AutoModelForCausalLM.from_pretrained(case["folder"], local_files_only=True).eval()
    if case["adapters"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, case["adapters"]).merge_and_unload()
    tokenizer: Any = case["tokenizer"] and AutoTokenizer.from_pretrained(case["tokenizer"])
    found = []
    for prompt in case["prompts"]:
        ids = prompt
        if tokenizer:
            ids = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        given = torch.tensor([ids])
        written = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=case["new_tokens"],
            do_sample=False,
        )[0, len(ids) :].tolist()
        text = tokenizer and tokenizer.decode(written, skip_special_tokens=True)
        found.append(text if tokenizer else written)
    return found


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    found = [answers(case) for case in json.load(sys.stdin)]
    print(json.dumps({"version": transformers.__version__, "answers": found}))
