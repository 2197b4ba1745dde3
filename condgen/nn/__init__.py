"""Networks that model families are built from.

config.py        ``UNetConfig`` and ``ModulatedConfig``, the fields that their configurations have in common
unet.py          a conditional U-Net at a fraction of the image's size
denoiser.py      a U-Net whose every block is modulated by a vector, for K draws of each sample
encoders.py      encoders trained on ImageNet, and decoders over their features
color_head.py    a classifier of each pixel's color on another network's features
conditioners.py  labels and texts as vectors and tokens
transformer.py   transformer blocks with a cache of keys and values
tokens.py        texts as tokens, by hashing words

The configurations and ``tokenize`` import no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
