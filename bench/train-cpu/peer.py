"""Times optimizer steps of a LLaMA of transformers under PyTorch, eager, f32, on the processor; prints one line of JSON.

    peer.py WIDTH FEED_FORWARD LAYERS HEADS KV_HEADS VOCABULARY SEQUENCES LENGTH STEPS THREADS

The same work as train-speed: forward, mean cross-entropy over shifted tokens, backward, norm of the gradient, clipping, AdamW.
"""

import json
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def main():
    width, feed_forward, layers, heads, kv_heads, vocabulary, sequences, length, steps, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=width, intermediate_size=feed_forward, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, max_position_embeddings=length, tie_word_embeddings=False,
        use_cache=False, attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-5)
    tokens = torch.randint(0, vocabulary, (sequences, length))
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=tokens).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": parameters, "tokens": sequences * length, "seconds": seconds}))


if __name__ == "__main__":
    main()
