"""The same training step by PyTorch and transformers: prints one JSON object for each setting that fits.

    python3 bench/gpu/torch_step.py SHAPE:SEQUENCES:ACCUMULATION[:lora]

f32 masters under bf16 autocast, SDPA attention, torch.compile, fused AdamW; with and without recomputation of the layers.
"""

import json
import sys
import time

import torch
import transformers

# width, feed-forward, layers, heads, key-value heads
SHAPES = {
    "llama-2-7b": (4096, 11008, 32, 32, 32),
    "llama-3.2-3b": (3072, 8192, 28, 24, 8),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8),
}
LENGTH = 4096
STEPS = 4


def model_of(name, lora):
    width, feed_forward, layers, heads, kv_heads = SHAPES[name]
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=32_000,
        max_position_embeddings=LENGTH,
        attn_implementation="sdpa",
        use_cache=False,
    )
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16 if lora else torch.float32)
        model = transformers.LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    if lora:
        import peft

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=names))
    return model


def seconds_of_step(what, recompute):
    name, sequences, accumulation, *rest = what.split(":")
    sequences, accumulation = int(sequences), int(accumulation)
    model = model_of(name, "lora" in rest)
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if rest:
            model.enable_input_require_grads()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-5, fused=True)
    compiled = torch.compile(model)
    tokens = torch.randint(0, 32_000, (sequences, LENGTH), device="cuda")
    times = []
    for _ in range(STEPS + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(accumulation):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = compiled(input_ids=tokens, labels=tokens).loss / accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    times = sorted(times[2:])
    return times[len(times) // 2], sequences * LENGTH * accumulation


def main():
    what = sys.argv[1]
    for recompute in (False, True):
        how = "layers recomputed" if recompute else "nothing recomputed"
        try:
            seconds, tokens = seconds_of_step(what, recompute)
        except torch.OutOfMemoryError:
            continue
        finally:
            torch.compiler.reset()
            torch.cuda.empty_cache()
        result = {"what": what, "torch": torch.__version__, "how": how, "seconds": seconds, "tokens_per_second": tokens / seconds}
        print(json.dumps(result), flush=True)
        return
    sys.exit(f"{what}: does not fit, with or without recomputation")


if __name__ == "__main__":
    main()
