"""What the encoders that learn in the printed protocols cost for one utterance: `learns` in papers/*/paper.toml.

    python benchmarks/printed_cost.py

Counted on networks of the published sizes without memory (PyTorch's device `meta`), so that neither weights nor a card
are needed. A layer that learns computes three times its forward pass; with checkpointing four times, and only its input
is kept until its own backward pass.
"""

from collections.abc import Callable, Iterator

import torch
import transformers
from gpu_memory import LARGE, RATE, SECONDS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from merlib.pretrained.efficientface import EfficientFace

FACES, SIDE, TOKENS = 15, 224, 128  # ATTSF-Net, Sec. III-A and IV-B; MPAF-Net, Sec. 3.1.2; MFCRE, Sec. 4.2
STATES = 299  # of 6 s of speech


def counted(net: nn.Module, run: Callable[[], Tensor]) -> tuple[int, int]:
    """Operations of one forward pass, and the bytes that it keeps for the backward pass."""
    own = {p.untyped_storage()._cdata for p in net.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()._cdata) not in own:
            kept[storage] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return counter.get_total_flops(), sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def wavlm(layers: int) -> nn.Module:
    """Bf16, the convolutions frozen."""
    net = transformers.WavLMModel(transformers.WavLMConfig(**LARGE | {"num_hidden_layers": layers, "layerdrop": 0.0}))
    net.feature_extractor.requires_grad_(False)
    return net.to(torch.bfloat16).train()


def costs() -> Iterator[tuple[str, nn.Module, int, int]]:
    """Name, network, operations and bytes of an utterance of full length."""
    wave = torch.empty(1, round(SECONDS["real"] * RATE), dtype=torch.bfloat16)
    two, three = (counted(net, lambda net=net: net(wave).last_hidden_state) for net in map(wavlm, (2, 3)))
    operations, kept = (more - less for more, less in zip(three, two, strict=True))  # of a layer
    depth, states = LARGE["num_hidden_layers"], 2 * LARGE["hidden_size"] * STATES
    whole = two[0] - 2 * operations + 4 * depth * operations, two[1] - 2 * kept + depth * states + kept
    yield "gia_mic, WavLM large", wavlm(depth), *whole

    face, pictures = EfficientFace(classes=None).train(), torch.empty(FACES, 3, SIDE, SIDE)
    operations, kept = counted(face, lambda: face(pictures))
    yield "attsf_net, EfficientFace", face, 3 * operations, kept

    bert = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2)).encoder.train()
    tokens = torch.empty(1, TOKENS, bert.config.hidden_size)
    operations, kept = counted(bert, lambda: bert(tokens).last_hidden_state)
    yield "mpaf_net, two layers of BERT", bert, 3 * operations, kept

    settings = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    roberta = transformers.RobertaModel(settings, add_pooling_layer=False).train()
    ids = torch.empty(1, TOKENS, dtype=torch.long)
    operations, kept = counted(roberta, lambda: roberta(ids).last_hidden_state)
    yield "mfcre, RoBERTa base", roberta, 3 * operations, kept


if __name__ == "__main__":
    with torch.device("meta"):
        for name, net, operations, kept in costs():
            parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
            sizes = f"parameters = {parameters}, megaflop = {operations / 1e6:.0f}, megabytes = {kept / 1e6:.0f}"
            print(f"{name}: learns = {{ {sizes} }}", flush=True)
