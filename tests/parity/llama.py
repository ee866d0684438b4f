"""Makes the fixtures of the trainer's parity tests: small random models of transformers with what they compute.

    python llama.py FOLDER      writes FOLDER/NAME/{config.json, model.safetensors, expected.safetensors} for each model

Run once where torch and transformers are installed (requirements-training.txt); the files are committed, and
train-kernel's tests compare with them. Per model: tokens, positions and documents of a packed batch with padding, logits, mean
loss, the gradient of every tensor, and every tensor after ten steps of AdamW with clipping, warm-up and cosine. FOLDER/adapters
holds adapters of PEFT on the first model, and the logits of both.
"""

import json
import math
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

# Rows of the packed batch: lengths of documents, then padding up to LENGTH.
LENGTH = 24
DOCUMENTS = [[9, 1, 12], [24], [5, 14]]
VOCABULARY = 61
STEPS, WARMUP, PEAK, FLOOR = 10, 3, 1e-2, 1e-3
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0

SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2, attention_dropout=0.0,
)


def models():
    """Name, model and sliding window of each fixture."""
    llama3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=16)
    plain = dict(rope_type="default", rope_theta=10000.0)
    yield "llama-2", LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4, rms_norm_eps=1e-5,
                                                  tie_word_embeddings=False, rope_parameters=plain)), None
    yield "llama-3", LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-5,
                                                  tie_word_embeddings=True, rope_parameters=llama3)), None
    yield "mistral", MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-6,
                                                      tie_word_embeddings=False, rope_parameters=plain,
                                                      sliding_window=5)), 5


def randomise(model):
    """Weights far from their initial values, so that nothing is nearly linear."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(0.0, 0.25) if value.dim() > 1 else value.normal_(1.0, 0.2)


def packed_batch():
    """Tokens, positions, targets (-100 where there is none) and the attention of each row to each."""
    tokens = torch.randint(0, VOCABULARY, (len(DOCUMENTS), LENGTH))
    positions = torch.zeros_like(tokens)
    targets = torch.full_like(tokens, -100)
    document = torch.full_like(tokens, -1)
    for row, lengths in enumerate(DOCUMENTS):
        start = 0
        for number, length in enumerate(lengths):
            positions[row, start:start + length] = torch.arange(length)
            targets[row, start:start + length - 1] = tokens[row, start + 1:start + length]
            document[row, start:start + length] = number
            start += length
    return tokens, positions, targets, document


def attention_mask(document, window):
    """0 where a row sees another, else minus infinity: the same document, not later, inside the window. Padding sees itself."""
    place = torch.arange(LENGTH)
    distance = place[:, None] - place[None, :]
    seen = (document[:, :, None] == document[:, None, :]) & (distance >= 0)
    if window is not None:
        seen &= distance < window
    seen |= torch.eye(LENGTH, dtype=torch.bool)
    return torch.where(seen, 0.0, float("-inf"))[:, None]


def learning_rate(step):
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def loss_of(model, batch, window):
    tokens, positions, targets, document = batch
    logits = model(input_ids=tokens, position_ids=positions, attention_mask=attention_mask(document, window)).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def tensors(model):
    """Every tensor once: the output projection of a tied model is its embedding."""
    return {name: value for name, value in model.named_parameters()}


def ten_steps(model, batch, window):
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": DECAY},
              {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, eps=EPSILON)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        _, loss = loss_of(model, batch, window)
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters()))
        if norm > CLIP:
            for p in model.parameters():
                p.grad.mul_(CLIP / norm)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    return torch.tensor(losses), torch.tensor(norms)


def write(folder, name, model, window):
    randomise(model)
    model.eval()
    batch = packed_batch()
    (folder / name).mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / name)
    (folder / name / "generation_config.json").unlink(missing_ok=True)
    logits, loss = loss_of(model, batch, window)
    loss.backward()
    expected = {"tokens": batch[0].float(), "documents": batch[3].float(), "logits": logits.detach(), "loss": loss.detach()[None]}
    expected |= {f"gradient.{key}": value.grad.clone() for key, value in tensors(model).items()}
    # transformers' own mask, its window included, on one text that is longer than any window.
    with torch.no_grad():
        expected["own_mask_logits"] = model(input_ids=batch[0][1:2]).logits[0]
    expected["losses"], expected["norms"] = ten_steps(model, batch, window)
    expected |= {f"trained.{key}": value.detach().clone() for key, value in tensors(model).items()}
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / name / "expected.safetensors")


def write_adapters(folder):
    """Random adapters of PEFT on the first model, with the logits of both together on one text."""
    model = LlamaForCausalLM.from_pretrained(folder / "llama-2", attn_implementation="eager")
    config = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.1, target_modules=["down_proj", "q_proj", "v_proj", "gate_proj"],
                        task_type="CAUSAL_LM", use_rslora=True)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.normal_(0.0, 0.3)
    adapted.eval()
    adapted.save_pretrained(folder / "adapters")
    (folder / "adapters" / "README.md").unlink(missing_ok=True)
    # The path of this machine has no place in a file that is committed.
    written = folder / "adapters" / "adapter_config.json"
    settings = json.loads(written.read_text(encoding="utf-8")) | {"base_model_name_or_path": "../llama-2"}
    written.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokens = torch.randint(0, VOCABULARY, (1, LENGTH))
    with torch.no_grad():
        logits = adapted(input_ids=tokens).logits[0]
    save_file({"tokens": tokens[0].float(), "logits": logits.contiguous()}, folder / "adapters" / "expected.safetensors")


def main():
    torch.manual_seed(7)
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name, model, window in models():
        model.config._attn_implementation = "eager"
        write(folder, name, model, window)
    write_adapters(folder)


if __name__ == "__main__":
    main()
