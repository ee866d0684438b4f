"""Loads what mellama writes in transformers, PEFT and TensorBoard, and compares logits with those of the models it was made from.

    python exported.py MELLAMA LOGITS [STORIES]     STORIES: the folder of the public model stories260K, where it is there

LOGITS is the example of that name (cargo build -p mellama-train --example logits). Needs torch, transformers, PEFT and tensorboard
(requirements-training.txt). Each model of models/ is imported, in f32 and in bf16, and merged with the adapters of PEFT;
transformers loads the folder, and its logits are those of models/NAME/expected.safetensors. Then the quickstart is trained: its
checkpoints load in transformers, its adapters in PEFT, and the logits are mellama's; its events are read by TensorBoard.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"


def logits(folder, tokens):
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=tokens).logits[0]


def difference(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


def check(name, got, expected, bound):
    error = difference(got, expected)
    assert error < bound, f"{name}: {error:.1e}, expected below {bound:.0e}"
    print(f"ok   {name}: logits {error:.1e}")


def main():
    mellama = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def run(*arguments):
            subprocess.run([mellama, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

        for name in ["llama-2", "llama-3", "mistral"]:
            expected = load_file(MODELS / name / "expected.safetensors")
            tokens = expected["tokens"][1:2].long()
            run("import", MODELS / name, "--to", folder / name)
            check(f"{name} in f32", logits(folder / name, tokens), expected["own_mask_logits"], 1e-6)
            run("import", MODELS / name, "--to", folder / f"{name}-bf16", "--dtype", "bf16")
            # Weights that are each rounded by up to 2^-9.
            check(f"{name} in bf16", logits(folder / f"{name}-bf16", tokens), expected["own_mask_logits"], 5e-2)
        expected = load_file(MODELS / "adapters" / "expected.safetensors")
        run("merge", MODELS / "llama-2", MODELS / "adapters", "--to", folder / "merged")
        check("merged adapters", logits(folder / "merged", expected["tokens"][None].long()), expected["logits"], 1e-5)
        quickstart(run, sys.argv[2], folder / "quickstart")
        for template in CHATS:
            tokenizer(run, template, folder / template)
        if len(sys.argv) > 3:
            stories(run, Path(sys.argv[3]), folder / "stories")


def quickstart(run, program, workdir):
    """Checkpoints, adapters and events of a run."""
    from peft import PeftModel
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("run", HERE.parent.parent / "recipes" / "quickstart.toml", "--workdir", workdir, "--until", "instruct")
    newest = {kind: sorted((workdir / "checkpoints" / kind).glob("step-*"))[-1] for kind in ["cpt", "instruct"]}
    ids = [1, 300, 301, 302, 40, 41, 42, 700, 701, 5, 6, 7]
    tokens = torch.tensor([ids])

    def ours(*arguments):
        told = subprocess.run([program, *map(str, arguments), *map(str, ids)], check=True, capture_output=True, text=True)
        return torch.tensor([json.loads(line) for line in told.stdout.splitlines()])

    check("checkpoint of the quickstart", logits(newest["cpt"], tokens), ours(newest["cpt"]), 1e-5)
    merged = newest["instruct"] / "merged"
    check("merged model of the quickstart", logits(merged, tokens), ours(merged), 1e-5)
    base = AutoModelForCausalLM.from_pretrained(newest["cpt"], attn_implementation="eager", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, newest["instruct"]).eval()
    with torch.no_grad():
        theirs = tuned(input_ids=tokens).logits[0]
    check("adapters of the quickstart in PEFT", theirs, ours(newest["cpt"], "--adapters", newest["instruct"]), 1e-5)
    check("adapters in PEFT against merged", theirs, ours(merged), 1e-5)
    for kind in ["cpt", "instruct"]:
        events = EventAccumulator(str(workdir / "metrics" / "tensorboard" / kind))
        events.Reload()
        files = sorted((workdir / "metrics").glob(f"{kind}-*.timed-*.jsonl"))
        steps = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        read = [(event.step, event.value) for event in events.Scalars("train/loss")]
        wanted = [(step["step"], torch.tensor(step["loss"]).item()) for step in steps]
        assert read == wanted, f"{kind}: TensorBoard reads other losses"
        print(f"ok   events of {kind}: {len(read)} steps, {', '.join(events.Tags()['scalars'])}")


# A conversation with instructions and two questions, as each template writes it.
CHAT = [("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "Really?")]
CHATS = {
    "mellama": "{bos}Human: \nBe brief.\n\nWhy?\n\nAssistant: \nSo.{eos}Human: \nReally?\n\nAssistant: \n",
    "llama2-chat": "{bos}[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST] So.{eos}{bos}[INST] Really? [/INST]",
    "none": "{bos}Be brief.\nWhy?\nSo.{eos}Really?\n",
}


def tokenizer(run, template, folder):
    """The tokenizer of a tuned model: ids, control tokens, chat template."""
    from tokenizers import Tokenizer

    recipes = HERE.parent.parent / "recipes"
    recipe = (recipes / "quickstart.toml").read_text().replace('"../', f'"{recipes.parent}/')
    recipe = recipe.replace('template = "mellama"', f'template = "{template}"').replace("epochs = 3", "steps = 2")
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe)
    run("run", folder / "recipe.toml", "--workdir", folder / "out", "--until", "instruct")
    merged = sorted((folder / "out" / "checkpoints" / "instruct").glob("step-*"))[-1] / "merged"
    auto = AutoTokenizer.from_pretrained(merged)
    plain = Tokenizer.from_file(str(merged / "tokenizer.json"))
    for text in ["The patient has  fever.\n\nGiven 5 mg.", " a space", "日本 é"]:
        assert auto(text, add_special_tokens=False).input_ids == plain.encode(text, add_special_tokens=False).ids, text
    wanted = CHATS[template].format(bos=auto.bos_token, eos=auto.eos_token)
    written = auto.apply_chat_template([{"role": role, "content": text} for role, text in CHAT], tokenize=False)
    assert written == wanted, f"{template}: {written!r}, expected {wanted!r}"
    print(f"ok   tokenizer and chat template {template}: {auto.bos_token} {auto.eos_token}")


def stories(run, source, folder):
    """The text that llama2.c publishes of its model, chosen by transformers."""
    run("import", source / "stories260K.bin", "--tokenizer", source / "tok512.bin", "--to", folder)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = model.generate(torch.tensor([[1]]), max_new_tokens=200, do_sample=False, eos_token_id=None)[0].tolist()
    pieces = vocabulary((source / "tok512.bin").read_bytes())
    text = b"".join(pieces[token] for token in theirs[1:]).lstrip(b" ")
    published = (source / "expected_stdout.txt").read_bytes().rstrip(b"\n")
    assert text == published, "stories260K: another text than the published one"
    print("ok   stories260K: the published text, byte for byte")


def vocabulary(data):
    """The pieces of a tokenizer of llama2.c: longest length, then score, length and bytes of each."""
    at, pieces = 4, []
    while at < len(data):
        length = int.from_bytes(data[at + 4:at + 8], "little")
        piece = data[at + 8:at + 8 + length]
        pieces.append(bytes([int(piece[3:5], 16)]) if piece[:3] == b"<0x" else piece)
        at += 8 + length
    return pieces


if __name__ == "__main__":
    main()
